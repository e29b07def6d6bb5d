"""Which classes are train, valid and test: the official draw, or the lists of the user.

Source: facts of the official format, section 2.1.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from episodes.faults import InputError
from episodes.folder import split_classes
from episodes.protocol import Split
from episodes.tfrecord import replacing

ClassNames = Mapping[Split, tuple[str, ...]]
"""The names of the classes of each split, in the order of their ids."""
FORM = 'Write {"train": [class names], "valid": [...], "test": [...]}.'


def draw_splits(names: Sequence[str], train: int, valid: int) -> ClassNames:
    """The official split of an ordered list of class names: train in random order, others sorted.

    Args:
        names: in the order that the official converter has them in.
        train, valid: how many classes these splits get; test gets the rest.
    """
    drawn = split_classes(len(names), train, valid)
    return {
        split: tuple(names[place] for place in places)
        for split, places in zip(Split, drawn, strict=True)
    }


def check_distinct(names: Sequence[str], where: str) -> None:
    """Raises InputError where a list of classes names one twice."""
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        what = f"names {len(twice)} classes twice: {', '.join(twice[:5])}."
        raise InputError(what, where, "Download it again.")


def all_test(names: Sequence[str]) -> ClassNames:
    """All classes in the test split."""
    return {Split.TRAIN: (), Split.VALID: (), Split.TEST: tuple(names)}


def in_order(splits: ClassNames) -> list[str]:
    """All class names in the order of their ids."""
    return [name for split in Split for name in splits[split]]


def as_json(splits: ClassNames) -> str:
    """The splits in the form of the official split files."""
    return json.dumps({split.value: list(splits[split]) for split in Split}, indent=2) + "\n"


def splits_file(folder: Path, source: str) -> Path:
    """Where a folder of splits keeps those of a source."""
    return folder / f"{source}_splits.json"


def write_splits(folder: Path, source: str, splits: ClassNames) -> None:
    """Keep the splits of a source beside the records."""
    with replacing(splits_file(folder, source)) as temporary:
        temporary.write_text(as_json(splits), encoding="utf-8")


def read_splits(path: Path, names: Sequence[str]) -> ClassNames:
    """The user's splits; class ids follow the order of the lists.

    Args:
        path: a file as `write_splits` writes it.
        names: of the classes that there are. Those that no list names are left out.

    Raises:
        InputError: the file is broken, or names a class twice or one that is not there.
    """
    try:
        raw = json.loads(path.read_text(encoding="utf-8-sig"), object_pairs_hook=_without_repeats)
        splits = {split: tuple(raw[split.value]) for split in Split}
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        what = f"does not list the classes of train, valid and test ({error!r})."
        raise InputError(what, path, FORM) from error
    listed = in_order(splits)
    lists = all(isinstance(raw[split.value], list) for split in Split)
    if not (listed and lists and all(isinstance(name, str) for name in listed)):
        raise InputError("does not list class names.", path, FORM)
    problems = {
        "named twice": [name for name, count in Counter(listed).items() if count > 1],
        "not in the raw data": sorted(set(listed) - set(names)),
    }
    for problem, wrong in problems.items():
        if wrong:
            examples = ", ".join(wrong[:5]) + (", …" if len(wrong) > 5 else "")
            what = f"{len(wrong)} classes are {problem}: {examples}."
            raise InputError(what, path, "Correct the lists.")
    return splits


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("an entry is there twice")
    return found
