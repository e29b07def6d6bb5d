"""Heads of the user's: from a file, `mine.py:MyHead`, or from an installed package."""

import hashlib
import inspect
import sys
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType

from episodes.faults import InputError, unknown_name
from fewshot.heads.base import Head

USER_MODULE = "user_head_"
ENTRY_GROUP = "fewshot.heads"
PROJECT = ("fewshot", "baselines")
"""Packages whose heads are this project's."""


def load_head_class(path: Path, class_name: str) -> type[Head]:
    """The head class of that name in a Python file anywhere on the disk.

    The file is run as it is, every time: it is the user's own code.

    Raises:
        InputError: no such file; it fails to run; it has no such class; the class is not a
            head, has no name, implements neither `fit` nor `fit_backbone`, or has settings
            but is not a dataclass.
    """
    module = _run_file(path)
    if not class_name:
        remedy = "Write the class after a colon, as in mine.py:MyHead."
        found = ", ".join(_head_names(module))
        raise InputError("names no class.", path, remedy + (f" It has: {found}." if found else ""))
    head = getattr(module, class_name, None)
    if head is None:
        fault = unknown_name("class", class_name, _head_names(module))
        raise InputError(fault.what, path, fault.remedy)
    return _checked(head, f"{path}:{class_name}")


def _checked(head: object, where: str) -> type[Head]:
    """A head class that can be made.

    Raises:
        InputError: see `load_head_class`.
    """
    if not (isinstance(head, type) and issubclass(head, Head)):
        raise InputError("is not a head.", where, "Derive it from fewshot.heads.Head.")
    if not isinstance(getattr(head, "name", None), str):
        raise InputError("has no name.", where, 'Give the class a line like `name = "mine"`.')
    if head.fit is Head.fit and head.fit_backbone is Head.fit_backbone:
        raise InputError("implements neither `fit` nor `fit_backbone`.", where)
    annotated = inspect.get_annotations(head)
    plain = {key for key, kind in annotated.items() if "ClassVar" not in str(kind)}
    plain -= set(head.__dataclass_fields__)
    if plain:
        raise InputError(
            f"has settings ({', '.join(sorted(plain))}) but is not a dataclass.",
            where,
            "Put @dataclass(frozen=True) above the class.",
        )
    return head


def _run_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise InputError("there is no such file.", path, "Write path/to/mine.py:MyHead.")
    # Dataclasses look their module up by name, so it must be listed, under a name of its own.
    module = ModuleType(USER_MODULE + hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:16])
    module.__file__ = str(path)
    sys.modules[module.__name__] = module
    try:
        # Not through the import system, which may run a stale __pycache__ of a file just edited.
        # A head's file is code, and trusted as such: SECURITY.md.
        exec(compile(path.read_bytes(), str(path), "exec"), module.__dict__)  # nosec B102
    except (Exception, SystemExit) as error:
        sys.modules.pop(module.__name__, None)
        what = f"the file fails to run: {type(error).__name__}: {error}."
        raise InputError(what, path) from error
    return module


def _head_names(module: ModuleType) -> list[str]:
    classes = [value for value in vars(module).values() if isinstance(value, type)]
    own = [value for value in classes if value.__module__ == module.__name__]
    return [value.__name__ for value in own if issubclass(value, Head)]


def is_own(head: Head) -> bool:
    """Whether a head is the user's own, not one of this project."""
    return type(head).__module__.partition(".")[0] not in PROJECT


def file_of_head(head: Head) -> Path | None:
    """The file that a head of the user's comes from; None for a head of this project."""
    if not is_own(head):
        return None
    module = sys.modules[type(head).__module__]
    return Path(str(module.__file__)) if getattr(module, "__file__", None) else None


def installed_heads() -> dict[str, EntryPoint]:
    """Heads that installed packages offer, by name: entry points of the group `fewshot.heads`."""
    return {point.name: point for point in entry_points(group=ENTRY_GROUP)}


def load_installed(point: EntryPoint) -> type[Head]:
    """The head class that a package offers.

    Raises:
        InputError: it cannot be imported, or is not a head.
    """
    where = f"entry point {point.name} = {point.value}"
    try:
        head = point.load()
    except Exception as error:
        raise InputError(f"fails to import: {type(error).__name__}: {error}.", where) from error
    return _checked(head, where)
