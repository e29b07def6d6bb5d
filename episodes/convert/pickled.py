"""The plain data in a pickle, without running it: texts, numbers, lists and dictionaries.

A pickle is a program, which can do anything to the computer of whoever runs it. Its instructions
can be listed without running them, and those that build plain data are few. Whatever else there is
(names of functions, calls) becomes a placeholder, of which only the bytes of an array are kept.
"""

import pickletools  # nosec B403: it lists instructions and runs none
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

TEXTS = ("STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE")
BYTES = ("BINBYTES", "SHORT_BINBYTES", "BINBYTES8")
NUMBERS = ("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1")
MARK = object()


@dataclass
class Placeholder:
    """What a pickle would make by a call: its arguments, and its state (that of an array, …)."""

    made_of: Any = None
    state: list[Any] = field(default_factory=list)


def read_pickled(content: bytes) -> dict[str, Any]:
    """The dictionary in a pickle, its texts as `str`, its arrays as the bytes that they hold.

    Raises:
        ValueError: it is no pickle, or not of such data.
    """
    stack: list[Any] = []
    memo: dict[Any, Any] = {}
    try:
        for opcode, argument, _ in pickletools.genops(content):
            _step(opcode.name, argument, stack, memo)
        if len(stack) != 1 or not isinstance(stack[0], dict):
            raise ValueError("not a pickle of one dictionary")
        return {_text(key): _plain(value) for key, value in stack[0].items()}
    except (IndexError, KeyError, TypeError, AttributeError, UnicodeError) as error:
        raise ValueError(f"not a pickle of plain data: {error!r}") from error


def _text(value: Any) -> Any:
    return value.decode("latin-1") if isinstance(value, bytes) else value


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [_text(one) for one in value]
    if isinstance(value, Placeholder):  # numpy's state: version, shape, type, order, bytes
        data = value.state[-1][-1]
        return data if isinstance(data, bytes) else data.encode("latin-1")
    return _text(value)


def _since_mark(stack: list[Any]) -> list[Any]:
    place = len(stack) - 1
    while stack[place] is not MARK:
        place -= 1
    found = stack[place + 1 :]
    del stack[place:]
    return found


def _dictionary(pairs: Iterable[tuple[Any, Any]]) -> dict[Any, Any]:
    """Keys are texts or numbers: to hash what is nested deeply could end the process."""
    found = list(pairs)
    if not all(isinstance(key, str | bytes | int) for key, _ in found):
        raise TypeError("a key is neither a text nor a number")
    return dict(found)


def _step(name: str, argument: Any, stack: list[Any], memo: dict[Any, Any]) -> None:
    """Follow one instruction."""
    if name in TEXTS + BYTES + NUMBERS:
        stack.append(argument)
    elif name in ("EMPTY_DICT", "EMPTY_LIST", "EMPTY_TUPLE"):
        stack.append({"EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_TUPLE": tuple}[name]())
    elif name in ("NONE", "NEWTRUE", "NEWFALSE"):
        stack.append({"NONE": None, "NEWTRUE": True, "NEWFALSE": False}[name])
    elif name == "MARK":
        stack.append(MARK)
    elif name in ("DICT", "LIST", "TUPLE"):
        values = _since_mark(stack)
        pairs = zip(values[::2], values[1::2], strict=True) if name == "DICT" else ()
        stack.append({"DICT": _dictionary(pairs), "LIST": values, "TUPLE": tuple(values)}[name])
    elif name in ("TUPLE1", "TUPLE2", "TUPLE3"):
        count = int(name[-1])
        stack[-count:] = [tuple(stack[-count:])]
    elif name in ("SETITEM", "SETITEMS"):
        values = [stack.pop(-2), stack.pop()] if name == "SETITEM" else _since_mark(stack)
        stack[-1].update(_dictionary(zip(values[::2], values[1::2], strict=True)))
    elif name in ("APPEND", "APPENDS"):
        values = [stack.pop()] if name == "APPEND" else _since_mark(stack)
        stack[-1].extend(values)
    elif name in ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"):
        memo[len(memo) if name == "MEMOIZE" else argument] = stack[-1]
    elif name in ("GET", "BINGET", "LONG_BINGET"):
        stack.append(memo[argument])
    elif name == "GLOBAL":
        stack.append(Placeholder(argument))
    elif name in ("STACK_GLOBAL", "REDUCE", "NEWOBJ"):
        arguments = stack.pop()
        stack[-1] = Placeholder((stack[-1], arguments))
    elif name == "BUILD":
        state = stack.pop()
        stack[-1].state.append(state)
    elif name not in ("PROTO", "FRAME", "STOP"):
        raise ValueError(f"it has the instruction {name}")
