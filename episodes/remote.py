"""Records on a web server or in a bucket: read by the piece, through fsspec.

    records = mirror("s3://bucket/records")        # a folder of this machine's cache

The mirror is a records folder: it holds the specifications, a note of where the rest is, and
the offset indexes. Images are fetched by ranged reads (`remote_records.py`) of whole blocks, which
a bounded cache keeps (`block_cache.py`). Everything fetched is checked by the checksums of the
records; a file that has changed meanwhile is noticed by its size and tag, and read anew.
"""

import hashlib
import json
import os
import re
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

from episodes.faults import InputError
from episodes.protocol import SOURCES
from episodes.records import cache_folder
from episodes.spec import LEAF_COUNTS, SPEC_FILE
from episodes.tfrecord import Span, replacing

NOTE = "remote.json"
"""In a mirror: where its records are."""
URL = re.compile(r"([a-z][a-z0-9+.-]+):/{1,2}([^/].*)", re.IGNORECASE)
"""Also as `Path` spells it, with one slash."""
OTHER_SOURCES = ("ilsvrc_2012_v2", "mnist", "cifar10", "cifar100")
ATTEMPTS, FIRST_PAUSE = 6, 0.25
"""A request that fails is repeated after a pause, each twice as long as the one before."""
CONNECT_SECONDS, SILENT_SECONDS = 10.0, 20.0
"""How long a web server may take to answer, and be silent in an answer."""
PATIENCE = (408, 425, 429)
"""Refusals of a web server that pass."""
PACKAGES = {"http": "aiohttp", "https": "aiohttp", "s3": "s3fs", "gs": "gcsfs", "gcs": "gcsfs"}
"""What fsspec needs beside itself for a kind of URL."""

T = TypeVar("T")


def find_url(records: str | Path) -> str | None:
    """The URL that is meant by the path of records; None for a folder of this machine."""
    match = URL.fullmatch(str(records))
    if match is None or Path(records).exists():
        return None
    return f"{match[1].lower()}://{match[2].rstrip('/')}"


def local_folder(records: str | Path) -> Path:
    """A records folder of this machine: the folder itself, or the mirror of a URL.

    Raises:
        InputError: as for `mirror`.
    """
    url = find_url(records)
    return Path(records) if url is None else mirror(url)


@lru_cache
def mirror(url: str) -> Path:
    """The folder in the user's cache that stands for remote records; specifications are fetched.

    Raises:
        InputError: the URL cannot be read, or there is no source.
    """
    folder = cache_folder() / "remote" / hashlib.sha256(url.encode()).hexdigest()[:16]
    remote = RemoteFiles(url)
    found = remote.fetch_all([f"{name}/{SPEC_FILE}" for name in remote.list_folders()])
    if not found:
        raise InputError(
            f"there is no <source>/{SPEC_FILE} of any source.",
            url,
            "Name the folder that holds a folder of records per source.",
        )
    leaf_counts = [path.replace(SPEC_FILE, LEAF_COUNTS) for path in found]
    found |= remote.fetch_all([path for path in leaf_counts if path.startswith("ilsvrc")])
    for path, content in {NOTE: json.dumps({"url": url}).encode(), **found}.items():
        _keep(folder / path, content)
    return folder


def refuse_url(records: Path | None, what: str) -> None:
    """Check that a folder is one of this machine.

    Args:
        records: the folder, if there is one.
        what: is done with it, as in "records are converted".

    Raises:
        InputError: it is a URL.
    """
    if records is not None and (url := find_url(records)):
        raise InputError(f"{what} in a folder of this machine only.", url, "Name a folder.")


def remote_of(folder: Path) -> str | None:
    """The URL whose mirror a records folder is; None where it is none."""
    try:
        url = json.loads((folder / NOTE).read_text(encoding="utf-8"))["url"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return str(url)


def _keep(path: Path, content: bytes) -> None:
    with suppress(OSError):
        if path.read_bytes() == content:
            return
    try:
        with replacing(path) as temporary:
            temporary.write_bytes(content)
    except OSError as error:
        remedy = "Set XDG_CACHE_HOME to a folder with room."
        raise InputError(f"cannot be written: {error.strerror}.", path, remedy) from error


class RemoteFiles:
    """The files under a URL; every request is repeated when it fails in passing.

    Args:
        url: without a slash at its end.

    Raises:
        InputError: what the kind of URL needs is not installed, the kind is unknown, or the
            server does not answer.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self._opened: tuple[int, Any, str] | None = None
        self._files()

    def _files(self) -> tuple[Any, str]:
        """fsspec's file system and the path in it; each process has its own connections."""
        if self._opened is None or self._opened[0] != os.getpid():
            scheme = self.url.partition("://")[0]
            options: dict[str, Any] = {"skip_instance_cache": True}
            try:
                import fsspec

                if scheme in ("http", "https"):
                    from aiohttp import ClientTimeout

                    wait = ClientTimeout(sock_connect=CONNECT_SECONDS, sock_read=SILENT_SECONDS)
                    options["client_kwargs"] = {"timeout": wait}
                system, path = fsspec.core.url_to_fs(self.url, **options)
            except ImportError as error:
                what = f"records at {scheme}:// need packages that are not installed ({error})."
                remedy = f"Install them: pip install fsspec {PACKAGES.get(scheme, '')}".rstrip()
                raise InputError(what, self.url, f"{remedy}.") from error
            except ValueError as error:
                remedy = "Give s3://, gs://, https:// or a folder."
                raise InputError(f"'{scheme}' is no kind of URL.", self.url, remedy) from error
            except Exception as error:  # some kinds (ftp) connect at once, with errors of their own
                remedy = "Check the address, your rights and the connection."
                what = f"cannot be reached: {error or type(error).__name__}."
                raise InputError(what, self.url, remedy) from error
            self._opened = os.getpid(), system, path.rstrip("/")
        return self._opened[1:]

    def list_folders(self) -> list[str]:
        """Names of folders; the known sources where the server does not list."""
        system, root = self._files()
        names = {*SOURCES, *OTHER_SOURCES}
        with suppress(Exception):  # a listing is a convenience
            for entry in system.ls(root, detail=True):
                if entry["type"] == "directory":
                    names.add(entry["name"].rstrip("/").rpartition("/")[2])
        return sorted(name for name in names if re.fullmatch(r"[\w.-]+", name) and name[0] != ".")

    def fetch_all(self, paths: Sequence[str]) -> dict[str, bytes]:
        """The contents of those files that exist."""
        found = {}
        for path in paths:
            with suppress(FileNotFoundError):
                found[path] = self._patiently(path, lambda system, full: system.cat_file(full))
        return {path: bytes(content) for path, content in found.items()}

    def describe(self, path: str, anew: bool = False) -> tuple[int, int]:
        """Size of a file, and a number that is another one once it has changed.

        Args:
            path: of the file.
            anew: whether to ask the server even where a listing of the folder is at hand.

        Raises:
            InputError: the file is missing, or the server does not answer.
        """
        if anew:
            self._files()[0].invalidate_cache()
        try:
            found = self._patiently(path, lambda system, full: system.info(full))
        except FileNotFoundError:
            raise InputError("is missing.", f"{self.url}/{path}", "Finish the copy.") from None
        if found.get("size") is None:
            raise InputError("the server does not tell its size.", f"{self.url}/{path}")
        tags = ("ETag", "etag", "LastModified", "mtime", "created")
        tag = next((str(found[name]) for name in tags if found.get(name)), "")
        digest = hashlib.sha256(f"{found['size']} {tag}".encode()).digest()
        return int(found["size"]), int.from_bytes(digest[:8], "little")

    def sizes(self, folder: str) -> dict[str, int] | None:
        """Sizes of the files of a folder by name; None where the server does not list them."""
        system, root = self._files()
        try:
            entries = system.ls(f"{root}/{folder}", detail=True)
        except Exception:  # a listing is a convenience
            return None
        named = {entry["name"].rpartition("/")[2]: entry.get("size") for entry in entries}
        return named if named and None not in named.values() else None

    def fetch_spans(self, path: str, spans: Sequence[Span]) -> list[bytes]:
        """Parts of a file, asked for at once.

        Raises:
            InputError: the server does not answer, or gives something else.
        """
        where = f"{self.url}/{path}"

        def fetch(system: Any, full: str) -> None:
            starts, stops = zip(*missing, strict=True)
            count = len(missing)
            parts = system.cat_ranges([full] * count, list(starts), list(stops), on_error="return")
            for (start, stop), part in zip(missing, parts, strict=True):
                if isinstance(part, Exception):
                    continue
                if len(part) > stop - start:
                    remedy = "Choose a server that answers ranged requests."
                    raise InputError("the server sends whole files, not parts.", where, remedy)
                if len(part) == stop - start:
                    parts_by_span[start, stop] = bytes(part)
            failed = [part for part in parts if isinstance(part, Exception)]
            if failed:
                raise failed[0]
            if any(span not in parts_by_span for span in missing):
                raise OSError("the server sent less than asked for")

        parts_by_span: dict[Span, bytes] = {}
        missing = list(dict.fromkeys(spans))
        if missing:
            try:
                self._patiently(path, fetch, lambda: _without(missing, parts_by_span))
            except FileNotFoundError:
                raise InputError("is missing.", where, "Finish the copy.") from None
        return [parts_by_span[span] for span in spans]

    def _patiently(
        self,
        path: str,
        act: Callable[[Any, str], T],
        before_again: Callable[[], None] | None = None,
    ) -> T:
        """What `act` gives, tried again after failures that may pass."""
        reason: Exception
        for attempt in range(ATTEMPTS):
            system, root = self._files()
            try:
                return act(system, f"{root}/{path}")
            except InputError:
                raise
            except FileNotFoundError as error:  # fsspec says so of every failure of some requests
                if not isinstance(error.__cause__, Exception) or _is_absent(error.__cause__):
                    raise
                reason = error.__cause__
            except Exception as error:  # every kind of server has exceptions of its own
                reason = error
            if _is_final(reason):
                break
            if attempt + 1 < ATTEMPTS:
                time.sleep(FIRST_PAUSE * 2**attempt)
                if before_again is not None:
                    before_again()
        said = str(reason) or type(reason).__name__
        raise InputError(
            f"cannot be read: {said}.",
            f"{self.url}/{path}",
            "Check the address, your rights and the connection; the same command goes on.",
        ) from reason


def _without(missing: list[Span], found: dict[Span, bytes]) -> None:
    missing[:] = [span for span in missing if span not in found]


def _status(error: Exception) -> int | None:
    """The status that a web server or a bucket answered with."""
    response = getattr(error, "response", None)  # botocore's
    if isinstance(response, dict):
        status = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    else:
        status = getattr(error, "status", None)
    return status if isinstance(status, int) else None


def _is_absent(error: Exception) -> bool:
    return isinstance(error, FileNotFoundError | LookupError) or _status(error) == 404


def _is_final(error: Exception) -> bool:
    """Whether asking again cannot help: no rights, a wrong request."""
    if isinstance(error, PermissionError | NotImplementedError):
        return True
    status = _status(error)
    return status is not None and 400 <= status < 500 and status not in PATIENCE
