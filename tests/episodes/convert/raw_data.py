"""Made raw data: files, folders, archives, and what the records of them must hold.

What must come out is read here directly from what goes in, by other means than the converters':
NumPy's own choice draws the splits, arrays are sliced and inverted by NumPy.
"""

import io
import tarfile
import zipfile
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

SPLITS = ("train", "valid", "test")


def draw_image(seed, size=(14, 10)):
    """[height, width, 3] smooth grey levels that differ with the seed."""
    rng = np.random.default_rng(seed)
    corners = rng.integers(0, 256, (3, 3, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(corners).resize(size, Image.Resampling.BILINEAR))


def encoded(pixels, form="JPEG", mode="RGB", **options):
    stream = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(stream, form, **options)
    return stream.getvalue()


def odd_file(seed, size=(14, 10)):
    """A file as raw data have them: mostly JPEG, some grey, CMYK, or PNG by another name."""
    pixels = draw_image(seed, size)
    kind = seed % 7
    if kind == 3:
        return encoded(pixels, mode="L")
    if kind == 4:
        return encoded(pixels, mode="CMYK")
    if kind == 5:
        return encoded(pixels, "PNG", mode="RGBA")
    if kind == 6:
        return encoded(pixels, "PNG", mode="P")
    return encoded(pixels, quality=90)


def record_of(content, box=None, invert=False):
    """What the record of a file must hold."""
    image = Image.open(io.BytesIO(content))
    if (image.format, image.mode, box, invert) == ("JPEG", "RGB", None, False):
        return content
    pixels = np.asarray(image.convert("RGB"))
    if box is not None:
        left, upper, right, lower = box
        pixels = pixels[upper:lower, left:right]
    return encoded(255 - pixels if invert else pixels)


def draw_splits(names, train, valid, test):
    """As the official converters do it, with NumPy's global generator."""
    assert len(names) == train + valid + test
    np.random.seed(22)
    kept = np.random.choice(len(names), train + valid, replace=False)
    tested = np.sort(list(set(range(len(names))) - set(kept)))
    trained = np.random.choice(kept, train, replace=False) if train else []
    validated = np.sort(list(set(kept) - set(trained)))
    parts = (trained, validated, tested)
    return {split: [names[i] for i in part] for split, part in zip(SPLITS, parts, strict=True)}


@dataclass
class Made:
    """Raw data: their files, and what must come out.

    Attributes:
        files: path → content.
        archives: name of an archive → the folder or file in `files` that it holds.
        splits: class names.
        records: class name → what each record holds.
    """

    files: dict = field(default_factory=dict)
    archives: dict = field(default_factory=dict)
    splits: dict = field(default_factory=dict)
    records: dict = field(default_factory=dict)

    def add(self, path, content):
        self.files[path] = content
        return content

    def in_order(self):
        return [name for split in SPLITS for name in self.splits[split]]

    def write(self, folder: Path):
        for path, content in self.files.items():
            place = folder / path
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(content)
        return folder

    def pack(self, folder: Path):
        """Archives as they are downloaded, and files that are in none."""
        folder.mkdir(parents=True, exist_ok=True)
        packed = set()
        for name, inside in self.archives.items():
            paths = [path for path in self.files if path.startswith(inside)]
            packed |= set(paths)
            prefix = inside.rpartition("/")[0]
            members = {path.removeprefix(prefix).lstrip("/"): self.files[path] for path in paths}
            (folder / name).write_bytes(pack(name, members))
        for path in set(self.files) - packed:
            (folder / Path(path).name).write_bytes(self.files[path])
        return folder


def pack(name, members):
    stream = io.BytesIO()
    if name.endswith(".zip"):
        with zipfile.ZipFile(stream, "w") as archive:
            for number, (path, content) in enumerate(members.items()):
                method = zipfile.ZIP_DEFLATED if number % 2 else zipfile.ZIP_STORED
                archive.writestr(path, content, method)
        return stream.getvalue()
    mode = "w:gz" if name.endswith("gz") else "w"
    with tarfile.open(fileobj=stream, mode=mode) as archive:
        for path, content in members.items():
            member = tarfile.TarInfo(path)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return stream.getvalue()
