"""Reading the lists of a large JSON object item by item: only its text is in memory."""

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

SPACE = re.compile(r"[ \t\n\r]*")


def stream_lists(text: str, takers: Mapping[str, Callable[[Any], None]]) -> None:
    """Hand the items of some lists in a JSON object over, one by one.

    Args:
        text: of the object.
        takers: name of a list in the object → what takes its items.

    Raises:
        ValueError: it is not a JSON object, or lacks a list.
    """
    decode, missing = json.JSONDecoder().raw_decode, set(takers)
    place = _expect(text, 0, "{")
    while True:
        name, place = decode(text, _skip(text, place))
        place = _skip(text, _expect(text, place, ":"))
        if name in takers and text.startswith("[", place):
            place = _stream_list(text, place + 1, decode, takers[name])
            missing.discard(name)
        else:
            _, place = decode(text, place)
        place = _skip(text, place)
        if not text.startswith(",", place):
            break
        place += 1
    _expect(text, place, "}")
    if missing:
        raise ValueError(f"it has no list {', '.join(sorted(missing))}")


def _stream_list(text: str, place: int, decode: Any, take: Callable[[Any], None]) -> int:
    place = _skip(text, place)
    while not text.startswith("]", place):
        item, place = decode(text, place)
        take(item)
        place = _skip(text, place)
        if text.startswith(",", place):
            place = _skip(text, place + 1)
        elif not text.startswith("]", place):
            raise ValueError(f"a list is broken at character {place}")
    return place + 1


def _skip(text: str, place: int) -> int:
    match = SPACE.match(text, place)
    return match.end() if match else place


def _expect(text: str, place: int, sign: str) -> int:
    place = _skip(text, place)
    if not text.startswith(sign, place):
        raise ValueError(f"there is no {sign!r} at character {place}")
    return place + 1
