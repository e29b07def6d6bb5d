"""The names of a classifier's outputs, in order: what weights from elsewhere do not say."""

import json
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from episodes.faults import InputError

IMAGENET = "imagenet"
"""The thousand classes of ILSVRC 2012 by WordNet id, in the order of torchvision and timm."""
WNID = re.compile(r"(n\d{8})\b.*")
FORMS = (
    "Give a text file with a name per line, an imagenet_class_index.json, a folder of class "
    f"folders, or {IMAGENET}."
)


def read_classes(given: str) -> tuple[str, ...]:
    """Names of classes by output.

    Args:
        given: a text file, one name per line (of a WordNet id with words behind it, the id
            alone); a JSON file, a list of names or {"0": ["n01440764", "tench"], …}; a folder,
            whose sub-folders count in the order of their names, as torchvision's and timm's
            folder data sets have it; or "imagenet".

    Raises:
        InputError: there is no such file, it holds no list of names, or a name twice.
    """
    path = Path(given)
    if path.is_dir():
        return _checked(sorted(one.name for one in path.iterdir() if one.is_dir()), path)
    if not path.exists() and given == IMAGENET:
        return _imagenet()
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        raise InputError(f"cannot be read as a list of classes: {reason}.", given, FORMS) from error
    if text.lstrip().startswith(("{", "[")):
        return _checked(_from_json(text, path), path)
    lines = [line.strip() for line in text.strip().splitlines()]
    found = [WNID.fullmatch(line) for line in lines]
    return _checked([m[1] for m in found if m] if all(found) else lines, path)


def _imagenet() -> tuple[str, ...]:
    try:
        from timm.data.imagenet_info import ImageNetInfo
    except ImportError as error:
        what = "the list of ImageNet's classes comes with timm, which is not installed."
        remedy = "Run: pip install 'timm>=1.0.20', or give a file."
        raise InputError(what, "--classes", remedy) from error
    return tuple(ImageNetInfo("imagenet-1k").label_names())


def _from_json(text: str, path: Path) -> list[str]:
    try:
        content: Any = json.loads(text)
        if isinstance(content, dict):  # by output: {"0": …, "1": …}
            content = [content[str(number)] for number in range(len(content))]
        # Keras writes the WordNet id and a word.
        return [one if isinstance(one, str) else str(one[0]) for one in content]
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise InputError("holds no list of classes.", path, FORMS) from error


def _checked(names: Iterable[str], path: Path) -> tuple[str, ...]:
    found = tuple(names)
    if not found or not all(found):
        what = f"line {found.index('') + 1} is empty." if found else "holds no classes."
        raise InputError(what, path, FORMS)
    name, count = Counter(found).most_common(1)[0]
    if count > 1:
        raise InputError(f"names the class {name} {count} times.", path, "Name every class once.")
    return found
