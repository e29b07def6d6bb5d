"""What a user can get wrong, said in one sentence: what, where, what to do."""

import difflib
import errno
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

LONGEST = 4000
"""Characters of each part of a message: a file may hold a name of any length."""


def one_line(text: object) -> str:
    """A text that may come from a foreign file, as it can be shown: one line, of bounded length.

    Line breaks become spaces; what would steer a terminal or turn the reading direction is escaped.
    """
    line = " ".join(str(text).split()) if "\n" in str(text) else str(text)
    shown = line if len(line) <= LONGEST else line[:LONGEST] + "…"
    if shown.isprintable():
        return shown
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in shown)


class InputError(Exception):
    """A fault in the user's input (a file, a name, a setting), with its remedy.

    The command line prints it as one message and exits with status 2; everything computed
    before it stays where it was written.

    Args:
        what: the rule that is broken and what was found instead.
        where: the file, folder or setting at fault.
        remedy: what the user can do about it.
    """

    def __init__(self, what: str, where: str | Path | None = None, remedy: str = "") -> None:
        self.what, self.where, self.remedy = what, where, remedy
        place = f"{one_line(where)}: " if where is not None else ""
        told = f"{place}{one_line(what)}"
        super().__init__(f"{told} {one_line(remedy)}" if remedy else told)

    def __reduce__(self) -> tuple[type["InputError"], tuple[str, str | Path | None, str]]:
        """Survive the trip from a worker process (pickle would pass the joined message only)."""
        return type(self), (self.what, self.where, self.remedy)


def changed_meanwhile(where: str | Path) -> InputError:
    """The error for images that are no longer those that a run says it was made of."""
    remedy = "Let nobody write there, then start again: changed images make another run."
    return InputError("has changed since this command began.", where, remedy)


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name closest to a mistyped one, or None when nothing is close."""
    lowered = {item.lower(): item for item in known}
    close = difflib.get_close_matches(name.lower(), lowered, n=1, cutoff=0.5)
    return lowered[close[0]] if close else None


def unknown_name(kind: str, name: str, known: Iterable[str]) -> InputError:
    """The error for a name that is in no table: the nearest name, then all of them."""
    names = list(known)
    guess = nearest(name, names)
    hint = f"Did you mean '{guess}'? " if guess else ""
    return InputError(f"unknown {kind} '{name}'.", remedy=f"{hint}Known: {', '.join(names)}.")


def enumerate_some(names: Sequence[str], most: int) -> str:
    """The first names of a list, and how many there are beside them."""
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")


def is_disk_full(error: BaseException) -> bool:
    """Whether an error says that the disk (or the user's quota) is full."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    return "disk is full" in str(error) or "No space left" in str(error)


@contextmanager
def writing(where: str | Path | None, instead: str, what: str = "") -> Iterator[None]:
    """Turn what the disk refuses meanwhile into one message.

    Args:
        where: the file or folder that is written.
        instead: of freeing space or mending permissions, as in "choose another --output".
        what: is written, as in "the records", where its place does not tell.

    Raises:
        InputError: the disk is full, or the place cannot be written.
    """
    try:
        yield
    except OSError as error:
        full = is_disk_full(error)
        reason = "the disk is full" if full else error.strerror or str(error)
        remedy = "Free some space" if full else "Check the folder and its permissions"
        raise InputError(
            f"{what} cannot be written: {reason}.".strip(), where, f"{remedy}, or {instead}."
        ) from error


def check_above_zero(settings: object, *names: str) -> None:
    """Check flags that count something; None is not given.

    Raises:
        InputError: the first that is 0 or less.
    """
    for name in names:
        value = getattr(settings, name)
        if value is not None and value < 1:
            raise InputError(f"--{name.replace('_', '-')} is {value}: it must be above 0.")


def check_not_negative(settings: object, *names: str) -> None:
    """Check flags that may be 0.

    Raises:
        InputError: the first that is below.
    """
    for name in names:
        value = getattr(settings, name)
        if value < 0:
            raise InputError(f"--{name.replace('_', '-')} is {value}: it must not be negative.")
