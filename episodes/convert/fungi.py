"""FGVCx Fungi 2018: photographs in lists. Source: facts of the official format, section 2.2."""

import json
from dataclasses import replace
from functools import cached_property
from typing import Any

from episodes.convert.class_images import ClassImages, ImageFiles
from episodes.convert.origin import Download, Origin
from episodes.convert.raw import read_raw
from episodes.convert.source import RawSource
from episodes.convert.splits import ClassNames, in_order
from episodes.convert.tree import RawFolder, need_file
from episodes.faults import InputError

LISTS = ("train.json", "val.json")
LINK = "https://labs.gbif.org/fgvcx/2018/"
DEAD = "known dead: forbidden since 2025; ask for a copy, or try the page's links"


class Fungi(RawSource):
    """`train.json` and `val.json` list `images/…`; their own splits are pooled."""

    name = "fungi"
    sizes = (994, 200, 200)
    origin = Origin(
        title="FGVCx Fungi Classification Challenge 2018 (Danish Svampe Atlas)",
        licence="for non-commercial research and education; no redistribution",
        page="https://github.com/visipedia/fgvcx_fungi_comp",
        downloads=(
            Download(
                "fungi_train_val.tgz",
                "13 GB",
                f"{LINK}fungi_train_val.tgz",
                landmarks=(("images",),),
                archives=("*fungi*",),
                state=DEAD,
            ),
            Download(
                "train_val_annotations.tgz",
                "3 MB",
                f"{LINK}train_val_annotations.tgz",
                landmarks=(LISTS,),
                archives=("*fungi*", "train_val_annotations*"),
                state=DEAD,
            ),
        ),
    )

    @cached_property
    def lists(self) -> list[dict[str, Any]]:
        """The content of both lists, of which the form has been looked at."""
        folder = self.need(self.origin.downloads[1])
        return [self._read(folder, name) for name in LISTS]

    def _read(self, folder: RawFolder, name: str) -> dict[str, Any]:
        file = need_file(folder, name)
        try:
            raw = json.loads(read_raw(file))
            return {
                "categories": {int(one["id"]): str(one["name"]) for one in raw["categories"]},
                "images": [(int(one["id"]), str(one["file_name"])) for one in raw["images"]],
                "annotations": [
                    (int(one["image_id"]), int(one["category_id"])) for one in raw["annotations"]
                ],
            }
        except (ArithmeticError, ValueError, KeyError, TypeError, RecursionError) as error:
            what = f"does not list categories, images and annotations ({error!r})."
            raise InputError(what, file.where, "Download it again.") from error

    def class_names(self) -> list[str]:
        """Categories by their numbers, as "0226.Cortinarius malicorius": names repeat."""
        train, valid = (one["categories"] for one in self.lists)
        if train != valid or sorted(train) != list(range(len(train))):
            what = "train.json and val.json do not number the same categories from 0."
            raise InputError(what, self.raw.path, "Download both again.")
        return [f"{number:04d}.{train[number]}" for number in sorted(train)]

    def images(self, splits: ClassNames) -> list[ClassImages]:
        """The images of a category in the order of both lists."""
        category = dict(pair for one in self.lists for pair in one["annotations"])
        listed = [pair for one in self.lists for pair in one["images"]]
        unknown = [name for number, name in listed if number not in category]
        if unknown or len(category) != len(listed):
            what = f"{len(category)} annotations for {len(listed)} images: {unknown[:3]}."
            raise InputError(what, self.raw.path, "Download train.json and val.json again.")
        classes: dict[int, list[str]] = {}
        for number, name in listed:
            classes.setdefault(category[number], []).append(name)
        folder = self.need(replace(self.origin.downloads[0], landmarks=((listed[0][1],),)))
        return [
            ImageFiles(tuple(need_file(folder, file) for file in classes.get(int(name[:4]), [])))
            for name in in_order(splits)
        ]
