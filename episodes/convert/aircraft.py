"""FGVC-Aircraft: variants, cropped. Source: facts of the official format, section 2.2."""

from functools import cached_property
from typing import Never

from episodes.convert.class_images import ClassImages, ImageFiles
from episodes.convert.encoding import Box
from episodes.convert.origin import Download, Origin
from episodes.convert.raw import read_text
from episodes.convert.source import RawSource
from episodes.convert.splits import ClassNames, check_distinct, in_order
from episodes.convert.tree import RawFolder, need_file
from episodes.faults import InputError

BOXES = "images_box.txt"
LABELS = ("images_variant_trainval.txt", "images_variant_test.txt")


class Aircraft(RawSource):
    """`data/images/*.jpg`, their variants and their boxes in text files beside them."""

    name = "aircraft"
    sizes = (70, 15, 15)
    origin = Origin(
        title="FGVC-Aircraft, release 2013b",
        licence="for non-commercial research",
        page="https://www.robots.ox.ac.uk/~vgg/data/fgvc-aircraft/",
        downloads=(
            Download(
                "fgvc-aircraft-2013b.tar.gz",
                "2.8 GB",
                "https://www.robots.ox.ac.uk/~vgg/data/fgvc-aircraft/archives/"
                "fgvc-aircraft-2013b.tar.gz",
                landmarks=(("variants.txt",),),
                archives=("*aircraft*",),
            ),
        ),
    )

    @cached_property
    def folder(self) -> RawFolder:
        """The folder `data` of the release."""
        return self.need(self.origin.downloads[0])

    def class_names(self) -> list[str]:
        """The lines of `variants.txt`, sorted."""
        file = need_file(self.folder, "variants.txt")
        names = sorted(line.strip() for line in read_text(file).splitlines() if line.strip())
        check_distinct(names, file.where)
        return names

    def images(self, splits: ClassNames) -> list[ClassImages]:
        """The images of a variant sorted by name, each cropped to its box."""
        numbers: dict[str, list[str]] = {name: [] for name in self.class_names()}
        for file in LABELS:
            for number, variant in self._pairs(file):
                if variant not in numbers:
                    self._refuse(file, f"names the variant {variant!r}, not in variants.txt.")
                numbers[variant].append(number)
        boxes = {number: self._box(number, box) for number, box in self._pairs(BOXES)}
        unboxed = [number for some in numbers.values() for number in some if number not in boxes]
        if unboxed:
            self._refuse(BOXES, f"has no box of {len(unboxed)} images: {', '.join(unboxed[:3])}.")
        classes = [sorted(numbers[name]) for name in in_order(splits)]
        return [
            ImageFiles(
                tuple(need_file(self.folder, f"images/{number}.jpg") for number in some),
                tuple(boxes[number] for number in some),
            )
            for some in classes
        ]

    def _pairs(self, name: str) -> list[tuple[str, str]]:
        """The first word of every line, and the rest, in which there may be spaces."""
        lines = read_text(need_file(self.folder, name)).splitlines()
        pairs = [line.strip().partition(" ") for line in lines if line.strip()]
        return [(first, rest.strip()) for first, _, rest in pairs]

    def _box(self, number: str, text: str) -> Box:
        """The four numbers as they are: Pillow's box, without a shift from 1 to 0."""
        try:
            left, upper, right, lower = map(int, text.split())
        except ValueError:
            self._refuse(BOXES, f"says {text!r} of image {number}, not four whole numbers.")
        if left >= right or upper >= lower:
            self._refuse(BOXES, f"says {text!r} of image {number}, which is an empty box.")
        return left, upper, right, lower

    def _refuse(self, name: str, what: str) -> Never:
        raise InputError(what, need_file(self.folder, name).where, "Download the release again.")
