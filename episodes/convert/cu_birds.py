"""Caltech-UCSD Birds: a folder per species. Source: facts of the official format, section 2.2."""

from functools import cached_property

from episodes.convert.class_images import ClassImages, ImageFiles
from episodes.convert.origin import Download, Origin
from episodes.convert.raw import read_text
from episodes.convert.source import RawSource
from episodes.convert.splits import ClassNames, check_distinct, in_order
from episodes.convert.tree import RawFolder, files_in, need_file, need_folder
from episodes.faults import InputError


class Birds(RawSource):
    """`classes.txt` names the folders in `images/`; pictures are taken whole, without their box."""

    name = "cu_birds"
    sizes = (140, 30, 30)
    origin = Origin(
        title="Caltech-UCSD Birds-200-2011",
        licence="for non-commercial research and education",
        page="https://www.vision.caltech.edu/datasets/cub_200_2011/",
        downloads=(
            Download(
                "CUB_200_2011.tgz",
                "1.2 GB",
                "https://data.caltech.edu/records/65de6-vp158",
                landmarks=(("classes.txt", "images/001.Black_footed_Albatross"),),
                weak=(("classes.txt",),),
                archives=("*cub*200*2011*",),
                state="the older link at www.vision.caltech.edu/visipedia-data is dead",
            ),
        ),
    )

    @cached_property
    def folder(self) -> RawFolder:
        """The folder that holds `classes.txt`."""
        return self.need(self.origin.downloads[0])

    def class_names(self) -> list[str]:
        """In the order of `classes.txt`: "001.Black_footed_Albatross" and so on."""
        file = need_file(self.folder, "classes.txt")
        lines = [line.split() for line in read_text(file).splitlines() if line.strip()]
        if any(len(line) != 2 for line in lines):
            what = "has a line that is not a number and a name."
            raise InputError(what, file.where, "Download it again.")
        names = [name for _, name in lines]
        check_distinct(names, file.where)
        return names

    def images(self, splits: ClassNames) -> list[ClassImages]:
        """All files of a folder, sorted."""
        folder = need_folder(self.folder, "images")
        return [ImageFiles(files_in(need_folder(folder, name))) for name in in_order(splits)]
