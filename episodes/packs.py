"""Packs: the images of one split, decoded and resized once, mapped into memory.

A pack holds exactly what its image rule yields, so reading from it gives the same bits as
reading from records: float32 for `official` (never rounded, four bytes per value), uint8 for
`official_rounded` and `antialiased` (a quarter of that). The rule is in the pack's name and
header; a pack of one rule never stands in for another.

At 84 pixels an image takes 84,672 bytes as float32 and 21,168 as uint8: ImageNet's 1.28 million
109 GB or 27 GB, QuickDraw's 50 million 4.3 TB or 1.1 TB. Pack what fits.

File: `magic | u32 header length | u32 crc(header) | header (JSON)`, zeros up to a page, one
u32 CRC-32C per image, zeros up to a page, the images [n, 3, size, size] by class and number.
Every image is checked each time it is read: that costs less than remembering which were.
"""

import json
import mmap
import os
import struct
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import numpy.typing as npt

from episodes.faults import InputError
from episodes.images import IMAGE_RULES, ImageRule
from episodes.plan import Integers
from episodes.protocol import Split
from episodes.source import EncodedImages
from episodes.spec import SourceSpec

PACK_FOLDER = ".packs"
"""Beside the records of a source, where packs are looked for unless another folder is named."""
MAGIC = b"MDPACK01"
START = struct.Struct("<8sII")
PAGE = 4096
REMEDY = "Remove it and pack again."


def pack_folder(spec: SourceSpec, packs: str | Path | None) -> Path:
    """Where the packs of a source are: by its name, as several sources may share a folder."""
    return (spec.folder / PACK_FOLDER if packs is None else Path(packs)) / spec.name


def pack_name(split: Split, rule: str, size: int) -> str:
    """The file name of a pack."""
    return f"{split}-{rule}-{size}.pack"


@dataclass(frozen=True)
class PackLayout:
    """What a pack holds, and where.

    Attributes:
        source, split: whose images.
        rule: how bytes became pixels.
        size: side of the images, in pixels.
        first_class: class id of the first class.
        images_per_class: of the split, by relative class id.
        fingerprint: of the records that were packed.
    """

    source: str
    split: Split
    rule: ImageRule
    size: int
    first_class: int
    images_per_class: tuple[int, ...]
    fingerprint: str

    @cached_property
    def header(self) -> bytes:
        """The first bytes of the file: equal headers, equal content."""
        entries = {
            "source": self.source,
            "split": self.split.value,
            "rule": self.rule.name,
            "dtype": np.dtype(self.rule.dtype).str,
            "size": self.size,
            "first_class": self.first_class,
            "images_per_class": self.images_per_class,
            "fingerprint": self.fingerprint,
        }
        content = json.dumps(entries).encode()
        return START.pack(MAGIC, len(content), google_crc32c.value(content)) + content

    @cached_property
    def starts(self) -> Integers:
        """[classes + 1] number of the first image of each class, then of all images."""
        return np.concatenate([[0], np.cumsum(self.images_per_class, dtype=np.int64)])

    @property
    def images(self) -> int:
        """Number of images."""
        return int(self.starts[-1])

    @property
    def image_bytes(self) -> int:
        """Bytes of one image."""
        return self.rule.image_bytes(self.size)

    @property
    def checksums_at(self) -> int:
        """Offset of the checksums."""
        return -(-len(self.header) // PAGE) * PAGE

    @property
    def images_at(self) -> int:
        """Offset of the images."""
        return self.checksums_at + -(-4 * self.images // PAGE) * PAGE

    @property
    def total_bytes(self) -> int:
        """Size of the file."""
        return self.images_at + self.images * self.image_bytes


def plan_pack(encoded: EncodedImages, split: Split, rule: str, size: int) -> PackLayout:
    """The layout of the pack of a split.

    Raises:
        InputError: a file of the source is missing.
    """
    spec = encoded.spec
    return PackLayout(
        source=spec.name,
        split=split,
        rule=IMAGE_RULES[rule],
        size=size,
        first_class=spec.split_classes[split].start,
        images_per_class=spec.images_in_split(split),
        fingerprint=encoded.fingerprint(),
    )


# ---- reading ---------------------------------------------------------------------------------


class Pack:
    """A finished pack, mapped into memory.

    Args:
        path: of the file.
        layout: what it must hold.

    Raises:
        InputError: it is stale (made of other records), truncated or damaged.
    """

    def __init__(self, path: Path, layout: PackLayout) -> None:
        self.path, self.layout = path, layout
        try:
            with path.open("rb", buffering=0) as file:
                header = _read_header(file.fileno())
                size = os.fstat(file.fileno()).st_size
                if header != layout.header:
                    raise InputError(_difference(header, layout), path, REMEDY)
                if size != layout.total_bytes:
                    what = f"is {size:,} bytes long, not {layout.total_bytes:,}: it is damaged."
                    raise InputError(what, path, REMEDY)
                self._map = mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ)
        except OSError as error:
            raise InputError(f"cannot be read: {error.strerror}.", path) from error
        self._checksums = np.frombuffer(
            self._map, "<u4", offset=layout.checksums_at, count=layout.images
        )
        shape = layout.images, 3, layout.size, layout.size
        self._images = np.frombuffer(
            self._map, layout.rule.dtype, offset=layout.images_at, count=int(np.prod(shape))
        ).reshape(shape)

    def __reduce__(self) -> tuple[type["Pack"], tuple[Path, PackLayout]]:
        """Survive the trip to a worker process, which maps the file itself."""
        return type(self), (self.path, self.layout)

    def read(self, class_ids: Integers, images: Integers) -> npt.NDArray[Any]:
        """Images in the order asked for, each checked against its checksum.

        Args:
            class_ids: [n] class id of each image.
            images: [n] number of each image in its class.

        Returns:
            [n, 3, size, size] in the type of the rule.

        Raises:
            InputError: the content of an image fails its checksum.
            IndexError: there is no such image.
        """
        relative = class_ids - self.layout.first_class
        outside = (relative < 0) | (images < 0)
        if outside.any() or (images >= np.asarray(self.layout.images_per_class)[relative]).any():
            raise IndexError("an image that the pack's split does not have")
        places = self.layout.starts[relative] + images
        if self._map.size() != self.layout.total_bytes:  # of the file, not of the map
            what = "the file was cut while it was open: what was mapped is gone."
            raise InputError(what, self.path, REMEDY)
        expected = self._checksums[places].tolist()
        out = np.empty((len(places), *self._images.shape[1:]), dtype=self._images.dtype)
        for k, place in enumerate(places.tolist()):
            image = self._images[place]
            if google_crc32c.value(image) != expected[k]:
                what = f"the content of image {place} fails its checksum: the pack is damaged."
                raise InputError(what, self.path, REMEDY)
            out[k] = image
        return out


def _difference(header: bytes, layout: PackLayout) -> str:
    """Why a pack with this header cannot be used, in a sentence."""
    content = header[START.size :]
    try:
        magic, _, crc = START.unpack_from(header)
        whole = magic == MAGIC and crc == google_crc32c.value(content)
        stale = whole and json.loads(content)["fingerprint"] != layout.fingerprint
    except (struct.error, ValueError, KeyError, TypeError):
        stale = False
    if stale:
        return "was packed from other records, or the records have changed since."
    return "does not start as this pack must: it is damaged or of another version."


def _read_header(handle: int) -> bytes:
    start = os.pread(handle, START.size, 0)
    if len(start) < START.size:
        return start
    length = min(START.unpack(start)[1], os.fstat(handle).st_size)
    return os.pread(handle, START.size + length, 0)


def find_pack(
    folder: Path, encoded: EncodedImages, split: Split, rule: str, size: int
) -> Pack | str:
    """A pack that is present and matches; else why it is not used, empty where there is none.

    Args:
        folder: of the packs of the source.
        encoded, split, rule, size: what must have been packed, and how.
    """
    path = folder / pack_name(split, rule, size)
    try:
        return Pack(path, plan_pack(encoded, split, rule, size)) if path.exists() else ""
    except (InputError, OSError) as error:
        return str(error)
