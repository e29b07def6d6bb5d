"""ImageNet, in both versions of the benchmark. Source: facts, sections 1.6, 2.2, 2.3, 2.4."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from episodes.convert.class_images import ClassImages, Skip
from episodes.convert.encoding import Unreadable, record_image
from episodes.convert.origin import Download, Origin
from episodes.convert.raw import RawFile, read_raw, read_text
from episodes.convert.source import RawSource, has_content
from episodes.convert.specification import Counts, dag_spec
from episodes.convert.splits import ClassNames, in_order
from episodes.convert.tree import (
    ArchiveFolder,
    DiskFolder,
    RawFolder,
    files_in,
    mount_tar,
    need_file,
    need_folder,
)
from episodes.convert.wordnet import Graph, read_wordnet, split_graph
from episodes.faults import InputError
from episodes.protocol import Split
from episodes.spec import LEAF_COUNTS

SYNSET = re.compile(r"n\d{8}")
FIRST = "n01440764"
ARCHIVES = ("*ilsvrc*train*", "*imagenet*")
WORDS, LINKS = "words.txt", "wordnet.is_a.txt"
USUAL_BYTES = 115_000
"""Of an image; tells about how many are in a tar that has not been looked at."""
DUPLICATES = "*duplicates*.txt"
LISTED_DUPLICATES = 403


@dataclass(frozen=True)
class Synset:
    """The images of a synset, which are listed when they are read: there are more than a million.

    Attributes:
        name: WordNet id.
        place: a folder on disk, a tar, or the files themselves.
        dropped: names of files that are duplicates of images in other sources.
        count: how many images there are, about.
    """

    name: str
    place: Path | RawFile | tuple[RawFile, ...]
    dropped: frozenset[str]
    count: int

    def __len__(self) -> int:
        return self.count

    def _files(self) -> tuple[RawFile, ...]:
        if isinstance(self.place, Path):
            return files_in(DiskFolder(self.place))
        if isinstance(self.place, RawFile):
            folder: RawFolder = mount_tar(self.place)
            return files_in(folder.folder(self.name) or folder)
        return self.place

    def encoded(self, skip: Skip) -> Iterator[bytes]:
        """See `ClassImages`; files that are no images are skipped, as in the benchmark."""
        for file in self._files():
            if file.base in self.dropped:
                continue
            try:
                yield record_image(read_raw(file))
            except Unreadable as error:
                skip(f"{file.where}: {error}")

    def describe(self) -> str:
        """See `ClassImages`."""
        return f"{self.name} {sorted(self.dropped)}"


class ImageNet(RawSource):
    """1000 folders or tars of images, loose or in one archive, and two files of WordNet."""

    name = "ilsvrc_2012"
    sizes = (712, 158, 130)
    splits_are_fixed = True
    origin = Origin(
        title="ImageNet, ILSVRC 2012, training images",
        licence="for non-commercial research and education; needs an account",
        page="https://www.image-net.org/challenges/LSVRC/2012/",
        downloads=(
            Download(
                "ILSVRC2012_img_train.tar",
                "148 GB",
                "https://image-net.org/challenges/LSVRC/2012/2012-downloads.php",
                landmarks=((FIRST,), (f"{FIRST}.tar",)),
                weak=(("n????????",), ("n????????.tar",)),
                archives=ARCHIVES,
                state="needs an account, as does imagenet-object-localization-challenge.zip "
                "of Kaggle, which holds the same images",
            ),
            Download(
                WORDS,
                "3 MB",
                "http://www.image-net.org/archive/words.txt",
                landmarks=((WORDS,),),
                archives=ARCHIVES,
                state="has been unreachable at times; copies lie in many repositories",
            ),
            Download(
                LINKS,
                "2 MB",
                "http://www.image-net.org/archive/wordnet.is_a.txt",
                landmarks=((LINKS,),),
                archives=ARCHIVES,
                state="has been unreachable at times; copies lie in many repositories",
            ),
        ),
    )

    @cached_property
    def folder(self) -> RawFolder:
        """The folder of synsets; beside a sorted validation set, that with more images."""
        train = self.origin.downloads[0]
        found = [folder for folder in self.raw.folders if has_content(train, folder)]
        return max(found, key=_images_of_first) if len(found) > 1 else self.need(train)

    @cached_property
    def links(self) -> RawFile:
        """The file of parents and children."""
        return need_file(self.need(self.origin.downloads[2]), LINKS)

    @cached_property
    def graph(self) -> Graph:
        """The hierarchy of all classes."""
        words = need_file(self.need(self.origin.downloads[1]), WORDS)
        texts = read_text(words), read_text(self.links)
        try:
            return read_wordnet(*texts, self.class_names())
        except InputError as error:
            raise InputError(error.what, words.where, error.remedy) from error

    @cached_property
    def graphs(self) -> Mapping[Split, Graph]:
        """The hierarchy of each split."""
        try:
            return split_graph(self.graph)
        except InputError as error:
            raise InputError(error.what, self.links.where, error.remedy) from error

    def class_names(self) -> list[str]:
        """The WordNet ids of all folders and tars, sorted."""
        tars = {name[:9] for name in self.folder.files if SYNSET.fullmatch(name[:9])}
        tars = {name for name in tars if self.folder.file(f"{name}.tar")}
        names = sorted(tars | {name for name in self.folder.folders if SYNSET.fullmatch(name)})
        self.check_number(names)
        return names

    def splits(self) -> ClassNames:
        """The leaves of each split's graph, sorted."""
        return {
            split: tuple(sorted(node for node, below in graph.children.items() if not below))
            for split, graph in self.graphs.items()
        }

    @cached_property
    def duplicates(self) -> frozenset[str]:
        """Names of images that the user's lists say are in other sources too."""
        lists = list(self.options.duplicates)
        for folder in [path for path in lists if path.is_dir()]:
            lists.remove(folder)
            lists += sorted(folder.glob(DUPLICATES))
        if self.options.duplicates and not lists:
            what = f"holds no lists ({DUPLICATES})."
            raise InputError(what, self.options.duplicates[0], "Name the files themselves.")
        return frozenset(name for path in lists for name in read_duplicates(path))

    def images(self, splits: ClassNames) -> list[ClassImages]:
        """All images of a synset by name, but for duplicates."""
        return [self._synset(name) for name in in_order(splits)]

    def _synset(self, name: str) -> Synset:
        dropped = frozenset(one for one in self.duplicates if one.startswith(f"{name}_"))
        if self.folder.folder(name) is None:
            tar = need_file(self.folder, f"{name}.tar")
            size = Path(tar.container).stat().st_size if tar.size < 0 else tar.size
            return Synset(name, tar, dropped, max(1, size // USUAL_BYTES))
        folder = need_folder(self.folder, name)
        if isinstance(folder, ArchiveFolder):
            return Synset(name, files_in(folder), dropped, len(folder.files))
        return Synset(name, Path(folder.where), dropped, len(folder.files))

    def specification(self, splits: ClassNames, counts: Counts) -> Mapping[str, Any]:
        """With a graph for each split."""
        return dag_spec(self.name, splits, counts, self.graphs)

    def companions(self, splits: ClassNames, counts: Counts) -> Mapping[str, Any]:
        """The number of images of every class, which the official converter looks for."""
        return {LEAF_COUNTS: {name: counts[k] for k, name in enumerate(in_order(splits))}}

    def notes(self) -> list[str]:
        """What became of images that are in other sources too."""
        named = len(self.duplicates)
        if named == LISTED_DUPLICATES:
            return [f"the {named} images of the duplicate lists are left out."]
        if named:
            text = f"the {named} images of your duplicate lists are left out"
            return [f"{text}; the benchmark leaves out {LISTED_DUPLICATES}."]
        return [
            f"no duplicate lists were given: the {LISTED_DUPLICATES} images that the benchmark "
            f"leaves out, because they are in other sources too, are in (see --duplicates)."
        ]


class ImageNet2(ImageNet):
    """The same images as in version 1; all classes are train classes, in one graph."""

    name = "ilsvrc_2012_v2"
    sizes = (1000, 0, 0)

    @cached_property
    def graphs(self) -> Mapping[Split, Graph]:
        """All in one."""
        none = Graph({}, {})
        return {Split.TRAIN: self.graph, Split.VALID: none, Split.TEST: none}


def _images_of_first(folder: RawFolder) -> int:
    first = folder.folder(FIRST)
    return len(first.files) if first else 0


def read_duplicates(path: Path) -> list[str]:
    """The names of images in a list: `n01531178/n01531178_12730.JPEG  # what it equals`.

    Raises:
        InputError: it cannot be read, or has another form.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        what = f"cannot be read ({error})."
        raise InputError(what, path, "Name the lists of the official code.") from error
    names = [line.partition("#")[0].strip().rpartition("/")[2] for line in lines]
    names = [name for name in names if name]
    wrong = [name for name in names if not re.fullmatch(r"n\d{8}_\d+\.JPEG", name)]
    if wrong or not names:
        what = f"is not a list of names such as {FIRST}_36.JPEG: {wrong[:1]}."
        raise InputError(what, path, "Name the lists of the official code.")
    return names
