"""MSCOCO: a record per annotated object. Source: facts of the official format, section 2.3."""

import hashlib
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from episodes.convert.class_images import ClassImages
from episodes.convert.crops import Boxes, Crops, CropShard
from episodes.convert.json_stream import stream_lists
from episodes.convert.origin import Download, Origin
from episodes.convert.raw import RawFile, read_text
from episodes.convert.source import RECORD_BYTES, SAMPLED, RawSource
from episodes.convert.specification import Counts, flat_spec
from episodes.convert.splits import ClassNames, in_order
from episodes.convert.tree import RawFolder, need_file
from episodes.faults import InputError

ANNOTATIONS = "instances_train2017.json"
IMAGES = "train2017"
SHARDS = 128
"""Open at once while a class file is merged."""


class Objects(RawSource):
    """`train2017/%012d.jpg`, and the boxes in `instances_train2017.json`, crowds included."""

    name = "mscoco"
    sizes = (0, 40, 40)
    origin = Origin(
        title="MSCOCO 2017, training images",
        licence="annotations CC BY 4.0; images under the terms of Flickr",
        page="https://cocodataset.org/#download",
        downloads=(
            Download(
                "train2017.zip",
                "19 GB",
                "http://images.cocodataset.org/zips/train2017.zip",
                landmarks=((IMAGES,),),
                archives=(f"{IMAGES}*", "*coco*"),
            ),
            Download(
                "annotations_trainval2017.zip",
                "0.3 GB",
                "http://images.cocodataset.org/annotations/annotations_trainval2017.zip",
                landmarks=((ANNOTATIONS,),),
                archives=("annotations_trainval2017*", "*coco*"),
            ),
        ),
    )

    @cached_property
    def _listed(self) -> tuple[dict[int, str], npt.NDArray[np.int64], npt.NDArray[np.float64]]:
        """Category → name in the order of the file; image and category, and box of annotations."""
        folder = self.need(self.origin.downloads[1])
        file = need_file(folder, ANNOTATIONS)
        categories: dict[int, str] = {}
        images: list[tuple[int, int]] = []
        boxes: list[tuple[float, float, float, float]] = []

        def take_category(one: Mapping[str, Any]) -> None:
            categories[int(one["id"])] = str(one["name"])

        def take_annotation(one: Mapping[str, Any]) -> None:
            images.append((int(one["image_id"]), int(one["category_id"])))
            x, y, w, h = map(float, one["bbox"])
            boxes.append((x, y, w, h))

        try:
            takers = {"categories": take_category, "annotations": take_annotation}
            stream_lists(read_text(file), takers)
            stray = {category for _, category in images} - set(categories)
            if stray or len(set(categories.values())) < len(categories):
                raise ValueError(f"categories {sorted(stray)} are not listed, or names repeat")
            bounds = np.array(boxes, dtype=np.float64).reshape(-1, 4)
            if not np.isfinite(bounds).all():
                raise ValueError("a box is not finite")
        except (ArithmeticError, ValueError, KeyError, TypeError, RecursionError) as error:
            what = f"does not list categories and annotations ({error!r})."
            raise InputError(what, file.where, "Download it again.") from error
        return categories, np.array(images, dtype=np.int64).reshape(-1, 2), bounds

    def class_names(self) -> list[str]:
        """The categories in the order of the file."""
        return list(self._listed[0].values())

    def _boxes(self, splits: ClassNames) -> tuple[Boxes, npt.NDArray[np.int64]]:
        """The annotations of classes in the splits, and the image of each."""
        categories, pairs, bounds = self._listed
        ids = {name: class_id for class_id, name in enumerate(in_order(splits))}
        class_of = {number: ids.get(name, -1) for number, name in categories.items()}
        classes = np.array([class_of[number] for number in pairs[:, 1].tolist()], dtype=np.int64)
        places = np.flatnonzero(classes >= 0)
        return Boxes(np.arange(len(pairs)), classes, bounds).take(places), pairs[places, 0]

    @cached_property
    def folder(self) -> RawFolder:
        """The folder that holds `train2017`."""
        return self.need(self.origin.downloads[0])

    def _file(self, image: int) -> RawFile:
        return need_file(self.folder, f"{IMAGES}/{image:012d}.jpg")

    def images(self, splits: ClassNames) -> list[ClassImages]:
        """The crops of each class, in the order of the annotations."""
        boxes, images = self._boxes(splits)
        for image in np.unique(images).tolist():
            self._file(image)
        digest = hashlib.sha256(boxes.boxes.tobytes() + images.tobytes()).hexdigest()[:16]
        counts = np.bincount(boxes.classes, minlength=len(in_order(splits))).tolist()
        return [Crops(k, count, digest, SHARDS, self.output) for k, count in enumerate(counts)]

    def parts(self, splits: ClassNames) -> list[CropShard]:
        """Images in the order in which they lie, about as many in each shard."""
        boxes, images = self._boxes(splits)
        order = np.argsort(images, kind="stable")
        numbers, starts = np.unique(images[order], return_index=True)
        of_image = np.split(order, starts[1:])
        pairs = [
            (self._file(number), boxes.take(places))
            for number, places in zip(numbers.tolist(), of_image, strict=True)
        ]
        pairs.sort(key=lambda pair: (pair[0].container, pair[0].offset))
        bounds = np.linspace(0, len(pairs), SHARDS + 1).astype(int).tolist()
        return [
            CropShard(k, len(in_order(splits)), tuple(pairs[bounds[k] : bounds[k + 1]]))
            for k in range(SHARDS)
        ]

    def expected_bytes(self, images: Sequence[ClassImages], splits: ClassNames) -> float:
        """Twice what the crops take: shards are kept until all class files are merged."""
        sample = [crop for shard in self.parts(splits)[:SAMPLED] for crop in _some(shard)]
        mean = sum(map(len, sample)) / max(len(sample), 1) + RECORD_BYTES
        return 2 * mean * sum(map(len, images))

    def specification(self, splits: ClassNames, counts: Counts) -> Mapping[str, Any]:
        """Counts in the order in which the classes appear among the annotations."""
        boxes, _ = self._boxes(splits)
        classes, first = np.unique(boxes.classes, return_index=True)
        seen = classes[np.argsort(first)].tolist()
        return flat_spec(self.name, splits, {class_id: counts[class_id] for class_id in seen})


def _some(shard: CropShard) -> list[bytes]:
    first = CropShard(shard.number, shard.class_count, shard.images[:1])
    return [image for _, (_, image) in first.crops(lambda _: None)]
