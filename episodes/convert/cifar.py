"""CIFAR-10 and CIFAR-100, test images, as the field adds them to the benchmark (see `mnist.py`).

The images of a class lie in the order of the file names that the Python version of the data keeps.
That version is a pickle, which this reads as data, without running any of it.
"""

from functools import cached_property
from typing import Any, Never

import numpy as np

from episodes.convert.class_images import ClassImages
from episodes.convert.mnist import Bitmaps
from episodes.convert.origin import Download, Origin
from episodes.convert.pickled import read_pickled
from episodes.convert.raw import read_raw
from episodes.convert.source import RawSource
from episodes.convert.splits import ClassNames, all_test, check_distinct, in_order
from episodes.convert.tree import RawFolder, need_file
from episodes.faults import InputError

SIDE = 32
PAGE = "https://www.cs.toronto.edu/~kriz/"
AGAIN = "Download the Python version again."


class Cifar10(RawSource):
    """`cifar-10-batches-py/test_batch` and `batches.meta`."""

    name = "cifar10"
    sizes = (0, 0, 10)
    batch, meta = "test_batch", "batches.meta"
    labels, label_names = "labels", "label_names"
    origin = Origin(
        title="CIFAR-10, test images",
        licence="not stated; for research",
        page=f"{PAGE}cifar.html",
        downloads=(
            Download(
                "cifar-10-python.tar.gz",
                "0.2 GB",
                f"{PAGE}cifar-10-python.tar.gz",
                landmarks=(("test_batch", "batches.meta"),),
                archives=("cifar-10-python*", "cifar10*"),
            ),
        ),
    )

    @cached_property
    def folder(self) -> RawFolder:
        """The folder that holds the batch."""
        return self.need(self.origin.downloads[0])

    def _read(self, name: str, *entries: str) -> list[Any]:
        file = need_file(self.folder, name)
        try:
            found = read_pickled(read_raw(file))
            return [found[entry] for entry in entries]
        except (ValueError, KeyError, TypeError) as error:
            what = f"is not a file of {self.origin.title} ({error})."
            raise InputError(what, file.where, AGAIN) from error

    def _names(self) -> list[str]:
        """The name of every label."""
        names: list[str] = self._read(self.meta, self.label_names)[0]
        if not _all_are(str, names):
            self._refuse(self.meta, "its names of labels are no list of texts.")
        check_distinct(names, need_file(self.folder, self.meta).where)
        return names

    def _refuse(self, name: str, what: str) -> Never:
        raise InputError(what, need_file(self.folder, name).where, AGAIN)

    def class_names(self) -> list[str]:
        """The names of the labels, sorted."""
        return sorted(self._names())

    def splits(self) -> ClassNames:
        """All are test classes."""
        names = self.class_names()
        self.check_number(names)
        return all_test(names)

    def images(self, splits: ClassNames) -> list[ClassImages]:
        """The images of a label, in the order of their file names."""
        names = self._names()
        data, labels, files = self._read(self.batch, "data", self.labels, "filenames")
        if not (isinstance(data, bytes) and _all_are(int, labels) and _all_are(str, files)):
            self._refuse(self.batch, "its pixels, labels or names of files are something else.")
        if not len(data) == 3 * SIDE * SIDE * len(labels) == 3 * SIDE * SIDE * len(files):
            what = f"{len(data)} bytes, {len(labels)} labels, {len(files)} names do not agree."
            self._refuse(self.batch, what)
        if not set(labels) <= set(range(len(names))):
            self._refuse(self.batch, f"it has labels that are not 0 to {len(names) - 1}.")
        planes = np.frombuffer(data, np.uint8).reshape(-1, 3, SIDE, SIDE)
        order: dict[str, list[int]] = {name: [] for name in names}
        for image in sorted(range(len(files)), key=lambda k: files[k]):
            order[names[labels[image]]].append(image)
        pixels = planes.transpose(0, 2, 3, 1)
        return [Bitmaps(np.ascontiguousarray(pixels[order[name]])) for name in in_order(splits)]


class Cifar100(Cifar10):
    """`cifar-100-python/test` and `meta`; the fine labels are the classes."""

    name = "cifar100"
    sizes = (0, 0, 100)
    batch, meta = "test", "meta"
    labels, label_names = "fine_labels", "fine_label_names"
    origin = Origin(
        title="CIFAR-100, test images",
        licence="not stated; for research",
        page=f"{PAGE}cifar.html",
        downloads=(
            Download(
                "cifar-100-python.tar.gz",
                "0.2 GB",
                f"{PAGE}cifar-100-python.tar.gz",
                landmarks=(("test", "meta"),),
                archives=("cifar-100-python*", "cifar100*"),
            ),
        ),
    )


def _all_are(kind: type, values: Any) -> bool:
    return isinstance(values, list) and all(type(value) is kind for value in values)
