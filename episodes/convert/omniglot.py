"""Omniglot: alphabets of characters. Source: facts of the official format, section 2.2."""

from collections.abc import Mapping
from functools import cached_property
from typing import Any

from episodes.convert.class_images import ClassImages, ImageFiles
from episodes.convert.origin import Download, Origin
from episodes.convert.source import RawSource
from episodes.convert.specification import Counts, bilevel_spec
from episodes.convert.splits import ClassNames, in_order
from episodes.convert.tree import RawFolder, files_in, need_folder
from episodes.faults import InputError
from episodes.protocol import Split

VALID_ALPHABETS = (
    "Blackfoot_(Canadian_Aboriginal_Syllabics)",
    "Ojibwe_(Canadian_Aboriginal_Syllabics)",
    "Inuktitut_(Canadian_Aboriginal_Syllabics)",
    "Tagalog",
    "Alphabet_of_the_Magi",
)
"""In the order of their ids, which is that of their sizes."""
BACKGROUND, EVALUATION = "images_background", "images_evaluation"
ALPHABETS = {BACKGROUND: 30, EVALUATION: 20}
LINK = "https://github.com/brendenlake/omniglot/raw/master/python/"


class Characters(RawSource):
    """`images_background/<alphabet>/<character>/*.png` and `images_evaluation/…`, inverted."""

    name = "omniglot"
    sizes = (883, 81, 659)
    splits_are_fixed = True
    origin = Origin(
        title="Omniglot",
        licence="MIT",
        page="https://github.com/brendenlake/omniglot",
        downloads=(
            Download(
                f"{BACKGROUND}.zip",
                "9 MB",
                f"{LINK}{BACKGROUND}.zip",
                landmarks=((f"{BACKGROUND}/Tagalog",),),
                weak=((BACKGROUND,),),
                archives=(f"{BACKGROUND}*", "omniglot*"),
            ),
            Download(
                f"{EVALUATION}.zip",
                "6 MB",
                f"{LINK}{EVALUATION}.zip",
                landmarks=((f"{EVALUATION}/Tengwar",),),
                weak=((EVALUATION,),),
                archives=(f"{EVALUATION}*", "omniglot*"),
            ),
        ),
    )

    @cached_property
    def folders(self) -> dict[str, RawFolder]:
        """The two folders of alphabets."""
        found = {}
        for download, (name, count) in zip(self.origin.downloads, ALPHABETS.items(), strict=True):
            folder = found[name] = need_folder(self.need(download), name)
            if len(folder.folders) != count:
                what = f"holds {len(folder.folders)} alphabets, not {count}."
                raise InputError(what, folder.where, "Download or extract it again.")
        return found

    @cached_property
    def alphabets(self) -> dict[Split, dict[str, RawFolder]]:
        """The alphabets of each split, in the order of their ids."""
        background, evaluation = self.folders[BACKGROUND], self.folders[EVALUATION]
        train = [name for name in background.folders if name not in VALID_ALPHABETS]
        return {
            Split.TRAIN: {name: need_folder(background, name) for name in train},
            Split.VALID: {name: need_folder(background, name) for name in VALID_ALPHABETS},
            Split.TEST: {name: need_folder(evaluation, name) for name in evaluation.folders},
        }

    def class_names(self) -> list[str]:
        """In the order of their ids, as the split is fixed."""
        return in_order(self.splits())

    def splits(self) -> ClassNames:
        """By alphabet; characters sorted, as "Tagalog-character01"."""
        return {
            split: tuple(
                f"{alphabet}-{character}"
                for alphabet, folder in alphabets.items()
                for character in folder.folders
            )
            for split, alphabets in self.alphabets.items()
        }

    def images(self, splits: ClassNames) -> list[ClassImages]:
        """All files of a character, sorted; black strokes on white become white on black."""
        return [
            ImageFiles(files_in(need_folder(folder, character)), invert=True)
            for split in Split
            for folder in self.alphabets[split].values()
            for character in folder.folders
        ]

    def specification(self, splits: ClassNames, counts: Counts) -> Mapping[str, Any]:
        """With alphabets as superclasses."""
        sizes = {
            split: {name: len(folder.folders) for name, folder in self.alphabets[split].items()}
            for split in Split
        }
        return bilevel_spec(self.name, splits, counts, sizes)
