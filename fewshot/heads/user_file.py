"""A head from the user's own file: `mine.py:MyHead`."""

import hashlib
import inspect
import sys
from pathlib import Path
from types import ModuleType

from episodes.faults import InputError, unknown_name
from fewshot.heads.base import Head

USER_MODULE = "user_head_"


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
    where = f"{path}:{class_name}"
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
        exec(compile(path.read_bytes(), str(path), "exec"), module.__dict__)
    except (Exception, SystemExit) as error:
        sys.modules.pop(module.__name__, None)
        what = f"the file fails to run: {type(error).__name__}: {error}."
        raise InputError(what, path) from error
    return module


def _head_names(module: ModuleType) -> list[str]:
    classes = [value for value in vars(module).values() if isinstance(value, type)]
    own = [value for value in classes if value.__module__ == module.__name__]
    return [value.__name__ for value in own if issubclass(value, Head)]


def file_of_head(head: Head) -> Path | None:
    """The user's file that a head comes from; None for a head of the table."""
    module = sys.modules[type(head).__module__]
    return Path(str(module.__file__)) if module.__name__.startswith(USER_MODULE) else None
