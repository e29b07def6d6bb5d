"""Where the encoded images of a source are: records, the TFDS layout, or a folder of images."""

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from episodes.faults import InputError, nearest
from episodes.folder import FolderImages, parse_own_source
from episodes.plan import Integers
from episodes.protocol import Split
from episodes.records import Records
from episodes.remote import local_folder, remote_of
from episodes.remote_records import RemoteRecords
from episodes.spec import SourceSpec, holds_spec, load_spec
from episodes.tfds import TfdsRecords, find_tfds, load_tfds


class EncodedImages(Protocol):
    """The encoded images of one source, whatever files they lie in."""

    @property
    def spec(self) -> SourceSpec:
        """Classes, splits and images per class."""

    def expect(self, class_ids: Integers, images: Integers) -> None:
        """Told of images that are about to be read, class by class.

        Args:
            class_ids: [n] class id of each.
            images: [n] number of each in its class.

        Raises:
            InputError: as `read`.
        """

    def read(self, class_id: int, images: Integers) -> list[tuple[bytes, int | None]]:
        """Encoded image and stored label (None when there is none) of images of one class.

        Args:
            class_id: absolute in the source.
            images: numbers of the images in the class.

        Raises:
            InputError: a file is missing or damaged.
        """

    def locate(self, class_id: int, image: int) -> str:
        """Where an image lies, for messages."""

    def fingerprint(self) -> str:
        """Sixteen hexadecimal digits that change when any of the files does.

        Raises:
            InputError: a file is missing.
        """


def open_source(records: str | Path, source: str, split: Split) -> EncodedImages:
    """The images of a source.

    Args:
        records: the folder that holds a folder per source, or its URL (`remote.py`), or a TFDS
            data folder, or the folder `meta_dataset` in one. Where both layouts are present,
            converted records win.
        source: a folder's name, or `name=folder` for a folder of class folders of images.
        split: the split whose files must all be there.

    Raises:
        InputError: the source is missing or broken.
    """
    own = parse_own_source(source)
    if own is not None:
        return FolderImages(*own)
    folder = local_folder(records)
    layout = find_layout(folder, source)
    if layout is not None:
        return TfdsRecords(load_tfds(layout, source), split)
    spec, url = _named_spec(folder / source), remote_of(folder)
    return Records(spec, split) if url is None else RemoteRecords(spec, split, url)


ClassBytes = Callable[[int], float]
"""Class id → bytes of its images on disk; raises OSError where a file is missing."""


def find_spec(records: str | Path, source: str) -> SourceSpec:
    """The specification of a source as `open_source` finds it; class files may be missing.

    Raises:
        InputError: the source is missing or its specification is broken.
    """
    return survey_source(records, source)[0]


def survey_source(records: str | Path, source: str) -> tuple[SourceSpec, ClassBytes]:
    """The specification of a source, and what its classes weigh; class files may be missing.

    Raises:
        InputError: the source is missing or its specification is broken.
    """
    own = parse_own_source(source)
    if own is not None:
        images = FolderImages(*own)
        return images.spec, images.class_bytes
    records = local_folder(records)
    folder = find_layout(records, source)
    if folder is not None:
        layout = load_tfds(folder, source)
        return layout.spec, layout.class_bytes
    spec, url = _named_spec(records / source), remote_of(records)
    if url is not None:
        return spec, RemoteRecords(spec, Split.TEST, url).class_bytes
    return spec, lambda class_id: spec.class_file(class_id).stat().st_size


def find_layout(records: Path, source: str) -> Path | None:
    """The folder of a source in the TFDS layout; None where it lies in converted records."""
    return None if holds_spec(records / source) else find_tfds(records, source)


def _named_spec(folder: Path) -> SourceSpec:
    if folder.parent.is_dir() and not folder.exists():
        there = sorted(entry.name for entry in folder.parent.iterdir() if holds_spec(entry))
        guess = nearest(folder.name, there)
        hint = f"Did you mean '{guess}'? " if guess else ""
        remedy = f"{hint}There: {', '.join(there) or 'none'}. Check the path of the records."
        raise InputError("there is no such folder.", folder, remedy)
    spec = load_spec(folder)
    if spec.name != folder.name:
        raise InputError(
            f"holds the source '{spec.name}', not '{folder.name}'.",
            folder,
            "Name the folder after the source in its dataset_spec.json.",
        )
    return spec
