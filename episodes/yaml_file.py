"""A YAML file that a stranger may have written: plain values, and no more of them than it seems."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from episodes.faults import InputError

MOST_VALUES = 10_000
"""Values that a file may spell: aliases of aliases can make few lines spell more than fit."""
MOST_BITS = 1024
"""Of a whole number; writing out a longer one takes Python long, or is refused."""


class Loader(yaml.SafeLoader):
    """PyYAML's safe loader, which makes plain values only; merged mappings stay small."""

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Put in what `<<` names."""
        super().flatten_mapping(node)
        if len(node.value) > MOST_VALUES:
            raise yaml.YAMLError(f"a mapping has more than {MOST_VALUES:,} entries")


def read_yaml(path: Path) -> Any:
    """The content of a YAML file, in plain values; None where there is none.

    Raises:
        InputError: the file cannot be read, is not YAML, or spells too much.
    """
    try:
        # the loader is PyYAML's safe one
        content = yaml.load(path.read_text(encoding="utf-8"), Loader)  # nosec B506
        for count, value in enumerate(values_in(content)):
            if count == MOST_VALUES:
                raise InputError(f"spells more than {MOST_VALUES:,} values.", path)
            if isinstance(value, int) and value.bit_length() > MOST_BITS:
                raise InputError("holds a number that is too long.", path)
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}.", path) from error
    except (yaml.YAMLError, ValueError, TypeError, LookupError, RecursionError) as error:
        reason = str(error) or type(error).__name__
        raise InputError(f"is not YAML: {' '.join(reason.split())}.", path) from error
    return content


def values_in(content: Any) -> Iterator[Any]:
    """A value and all in it, what aliases name as often as they do."""
    stack = [iter((content,))]
    while stack:
        for value in stack[-1]:
            yield value
            if isinstance(value, dict):
                stack.append(iter([*value, *value.values()]))
                break
            if isinstance(value, list | tuple | set):
                stack.append(iter(value))
                break
        else:
            stack.pop()
