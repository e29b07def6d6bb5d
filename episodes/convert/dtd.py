"""Describable Textures: a folder per texture. Source: facts of the official format, section 2.2."""

from functools import cached_property

from episodes.convert.class_images import ClassImages, ImageFiles
from episodes.convert.origin import Download, Origin
from episodes.convert.source import RawSource
from episodes.convert.splits import ClassNames, in_order
from episodes.convert.tree import RawFolder, files_in, need_folder


class Textures(RawSource):
    """`images/<texture>/*.jpg`; the data set's own splits are not used."""

    name = "dtd"
    sizes = (33, 7, 7)
    origin = Origin(
        title="Describable Textures Dataset, release 1.0.1",
        licence="for research",
        page="https://www.robots.ox.ac.uk/~vgg/data/dtd/",
        downloads=(
            Download(
                "dtd-r1.0.1.tar.gz",
                "0.6 GB",
                "https://www.robots.ox.ac.uk/~vgg/data/dtd/download/dtd-r1.0.1.tar.gz",
                landmarks=(("images/banded", "images/dotted"),),
                weak=(("images",),),
                archives=("dtd*",),
            ),
        ),
    )

    @cached_property
    def folder(self) -> RawFolder:
        """The folder of class folders."""
        return need_folder(self.need(self.origin.downloads[0]), "images")

    def class_names(self) -> list[str]:
        """The folders, sorted."""
        return self.folder.folders

    def images(self, splits: ClassNames) -> list[ClassImages]:
        """All files of a folder, sorted."""
        folder = self.folder
        return [ImageFiles(files_in(need_folder(folder, name))) for name in in_order(splits)]
