"""Oxford flowers: images and their labels. Source: facts of the official format, section 2.2."""

from functools import cached_property

import numpy as np
import numpy.typing as npt

from episodes.convert.class_images import ClassImages, ImageFiles
from episodes.convert.matlab import read_matlab
from episodes.convert.origin import Download, Origin
from episodes.convert.raw import read_raw
from episodes.convert.source import RawSource
from episodes.convert.splits import ClassNames, in_order
from episodes.convert.tree import RawFolder, need_file
from episodes.faults import InputError

FLOWERS = (
    "pink primrose",
    "hard-leaved pocket orchid",
    "canterbury bells",
    "sweet pea",
    "english marigold",
    "tiger lily",
    "moon orchid",
    "bird of paradise",
    "monkshood",
    "globe thistle",
    "snapdragon",
    "colt's foot",
    "king protea",
    "spear thistle",
    "yellow iris",
    "globe-flower",
    "purple coneflower",
    "peruvian lily",
    "balloon flower",
    "giant white arum lily",
    "fire lily",
    "pincushion flower",
    "fritillary",
    "red ginger",
    "grape hyacinth",
    "corn poppy",
    "prince of wales feathers",
    "stemless gentian",
    "artichoke",
    "sweet william",
    "carnation",
    "garden phlox",
    "love in the mist",
    "mexican aster",
    "alpine sea holly",
    "ruby-lipped cattleya",
    "cape flower",
    "great masterwort",
    "siam tulip",
    "lenten rose",
    "barbeton daisy",
    "daffodil",
    "sword lily",
    "poinsettia",
    "bolero deep blue",
    "wallflower",
    "marigold",
    "buttercup",
    "oxeye daisy",
    "common dandelion",
    "petunia",
    "wild pansy",
    "primula",
    "sunflower",
    "pelargonium",
    "bishop of llandaff",
    "gaura",
    "geranium",
    "orange dahlia",
    "pink-yellow dahlia?",
    "cautleya spicata",
    "japanese anemone",
    "black-eyed susan",
    "silverbush",
    "californian poppy",
    "osteospermum",
    "spring crocus",
    "bearded iris",
    "windflower",
    "tree poppy",
    "gazania",
    "azalea",
    "water lily",
    "rose",
    "thorn apple",
    "morning glory",
    "passion flower",
    "lotus",
    "toad lily",
    "anthurium",
    "frangipani",
    "clematis",
    "hibiscus",
    "columbine",
    "desert-rose",
    "tree mallow",
    "magnolia",
    "cyclamen",
    "watercress",
    "canna lily",
    "hippeastrum",
    "bee balm",
    "ball moss",
    "foxglove",
    "bougainvillea",
    "camellia",
    "mallow",
    "mexican petunia",
    "bromelia",
    "blanket flower",
    "trumpet creeper",
    "blackberry lily",
)
"""The 102 flowers, which the raw data only number."""
LABELS = "imagelabels.mat"
PAGE = "https://www.robots.ox.ac.uk/~vgg/data/flowers/102/"


class Flowers(RawSource):
    """`jpg/image_00001.jpg` and so on, and a MATLAB file of their labels, which start at 1."""

    name = "vgg_flower"
    sizes = (71, 15, 16)
    origin = Origin(
        title="Oxford 102 Flowers",
        licence="not stated; images found on the web",
        page=PAGE,
        downloads=(
            Download(
                "102flowers.tgz",
                "0.3 GB",
                f"{PAGE}102flowers.tgz",
                landmarks=(("jpg/image_00001.jpg",),),
                weak=(("jpg",),),
                archives=("*flower*",),
            ),
            Download(
                LABELS,
                "1 kB",
                f"{PAGE}{LABELS}",
                landmarks=((LABELS,),),
                archives=("*flower*",),
            ),
        ),
    )

    @cached_property
    def folder(self) -> RawFolder:
        """The folder that holds `jpg`."""
        return self.need(self.origin.downloads[0])

    @cached_property
    def labels(self) -> npt.NDArray[np.int64]:
        """The label of every image, from 1."""
        file = need_file(self.need(self.origin.downloads[1]), LABELS)
        try:
            labels = read_matlab(read_raw(file), "labels")
        except ValueError as error:
            what = f"is not a MATLAB file with `labels` ({error})."
            raise InputError(what, file.where, "Download it again.") from error
        if not np.isin(labels, np.arange(1, len(FLOWERS) + 1)).all():
            what = f"has labels that are not 1 to {len(FLOWERS)}."
            raise InputError(what, file.where, "Download it again.")
        return labels.astype(np.int64)

    def class_names(self) -> list[str]:
        """Numbered from 001."""
        return [f"{number:03d}.{flower}" for number, flower in enumerate(FLOWERS, start=1)]

    def images(self, splits: ClassNames) -> list[ClassImages]:
        """The images of a flower by their numbers."""
        classes = [np.flatnonzero(self.labels == int(name[:3])) + 1 for name in in_order(splits)]
        return [
            ImageFiles(tuple(need_file(self.folder, f"jpg/image_{k:05d}.jpg") for k in some))
            for some in classes
        ]
