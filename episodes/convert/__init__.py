"""Raw downloads into records: one file per source, one table."""

from pathlib import Path

from episodes.convert.aircraft import Aircraft
from episodes.convert.cifar import Cifar10, Cifar100
from episodes.convert.class_folders import ClassFolders
from episodes.convert.cu_birds import Birds
from episodes.convert.dtd import Textures
from episodes.convert.fungi import Fungi
from episodes.convert.ilsvrc_2012 import ImageNet, ImageNet2
from episodes.convert.mnist import Digits
from episodes.convert.mscoco import Objects
from episodes.convert.omniglot import Characters
from episodes.convert.quickdraw import Sketches
from episodes.convert.source import Options, RawSource
from episodes.convert.traffic_sign import Signs
from episodes.convert.tree import RawData
from episodes.convert.vgg_flower import Flowers
from episodes.faults import InputError, unknown_name
from episodes.folder import parse_own_source

CONVERTERS: dict[str, type[RawSource]] = {
    kind.name: kind
    for kind in (
        ImageNet,
        ImageNet2,
        Characters,
        Aircraft,
        Birds,
        Textures,
        Sketches,
        Fungi,
        Flowers,
        Signs,
        Objects,
        Digits,
        Cifar10,
        Cifar100,
    )
}
"""Source → how its raw data are converted."""


def open_raw(source: str, raw: Path | None, records: Path, options: Options) -> RawSource:
    """The raw data of a source. They are looked at when they are needed.

    Args:
        source: a name, or `name=folder` for a folder of class folders of images.
        raw: where to look for the sources of the table.
        records: folder of all records.
        options: of the conversion.

    Raises:
        InputError: there is no such source or folder.
    """
    own = parse_own_source(source)
    if own is not None:
        opened = ClassFolders(RawData(own[1]), records / own[0], options)
        opened.name = own[0]  # type: ignore[misc]  # the only source whose name the user chooses
        return opened
    if source not in CONVERTERS:
        raise unknown_name("source", source, CONVERTERS)
    if raw is None:
        what = f"where the raw data of {source} lie is not said."
        raise InputError(what, remedy="Name their folder with --raw.")
    return CONVERTERS[source](RawData(raw), records / source, options)
