"""A head written as text: `name:key=value,key=value`, each value read as its field's type."""

import math
import types
from dataclasses import fields
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from episodes.faults import InputError, unknown_name
from fewshot.heads.base import Head

TRUTH = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


def split_settings(text: str, head: str) -> dict[str, str]:
    """Read `key=value,key=value` into a dictionary, values still text.

    Raises:
        InputError: a part without `=`, or a key given twice.
    """
    settings: dict[str, str] = {}
    for part in text.split(",") if text.strip() else ():
        key, equals, value = (piece.strip() for piece in part.partition("="))
        if not (key and equals and value):
            raise InputError(f"cannot read '{part}'.", f"head {head}", "Write key=value,key=value.")
        if key in settings:
            raise InputError(f"the setting '{key}' is given twice.", f"head {head}")
        settings[key] = value
    return settings


def apply_settings(head: type[Head], settings: dict[str, Any]) -> Head:
    """Make a head with some settings changed from their defaults.

    Args:
        head: the class.
        settings: values by name; text (from a flag) is read as the field's type, anything else
            (from YAML or a call) must be of it.

    Raises:
        InputError: an unknown setting, with the nearest known one; a value of another type or
            out of range; a required setting that is missing.
    """
    known = {field.name for field in fields(head) if field.init}
    kinds = get_type_hints(head)
    values = {}
    for key, value in settings.items():
        if not known:
            raise InputError(f"unknown setting '{key}'; it has none.", f"head {head.name}")
        if key not in known:
            raise unknown_name(f"setting of head {head.name}", key, sorted(known))
        values[key] = read_value(kinds[key], value, f"head {head.name}, setting {key}")
    try:
        return head(**values)
    except TypeError as error:
        raise InputError(f"cannot be made: {error}.", f"head {head.name}") from error


def read_value(kind: Any, value: Any, where: str) -> Any:
    """Read one value as int, float, bool, str, a Literal of them, or an optional of these.

    Raises:
        InputError: the value is not of that kind; for a Literal, with the nearest choice.
    """
    origin, choices = get_origin(kind), get_args(kind)
    if origin is Literal:
        for choice in choices:
            if value == choice or (isinstance(value, str) and value == str(choice)):
                return choice
        fault = unknown_name("choice", str(value), map(str, choices))
        raise InputError(fault.what, where, fault.remedy)
    if origin in (Union, types.UnionType) and type(None) in choices:
        if value is None or value == "none":
            return None
        kind = next(choice for choice in choices if choice is not type(None))
    if kind is bool and isinstance(value, str) and value.lower() in TRUTH:
        return TRUTH[value.lower()]
    if kind in (int, float) and isinstance(value, str | int | float):
        number = _number(kind, value)
        if number is not None:
            return number
    elif isinstance(kind, type) and isinstance(value, kind):
        return value
    noun = {int: "a whole number", float: "a number", bool: "true or false"}.get(kind, str(kind))
    raise InputError(f"'{value}' is not {noun}.", where)


def _number(kind: type[int] | type[float], value: str | int | float) -> int | float | None:
    """The value as a finite number of that kind, or None."""
    if isinstance(value, bool) or (kind is int and isinstance(value, float)):
        return None
    try:
        number = kind(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None
