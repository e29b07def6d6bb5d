"""German traffic signs, shuffled. Source: facts of the official format, section 2.2."""

from functools import cached_property

from numpy.random import RandomState

from episodes.convert.class_images import ClassImages, ImageFiles
from episodes.convert.origin import Download, Origin
from episodes.convert.raw import RawFile
from episodes.convert.source import RawSource
from episodes.convert.splits import ClassNames, all_test, in_order
from episodes.convert.tree import RawFolder, files_in, need_folder
from episodes.folder import SPLIT_SEED

FOLDER = "Final_Training/Images"
SIGNS = (
    "Speed limit (20km/h)",
    "Speed limit (30km/h)",
    "Speed limit (50km/h)",
    "Speed limit (60km/h)",
    "Speed limit (70km/h)",
    "Speed limit (80km/h)",
    "End of speed limit (80km/h)",
    "Speed limit (100km/h)",
    "Speed limit (120km/h)",
    "No passing",
    "No passing for vehicles over 3.5 metric tons",
    "Right-of-way at the next intersection",
    "Priority road",
    "Yield",
    "Stop",
    "No vehicles",
    "Vehicles over 3.5 metric tons prohibited",
    "No entry",
    "General caution",
    "Dangerous curve to the left",
    "Dangerous curve to the right",
    "Double curve",
    "Bumpy road",
    "Slippery road",
    "Road narrows on the right",
    "Road work",
    "Traffic signals",
    "Pedestrians",
    "Children crossing",
    "Bicycles crossing",
    "Beware of ice/snow",
    "Wild animals crossing",
    "End of all speed and passing limits",
    "Turn right ahead",
    "Turn left ahead",
    "Ahead only",
    "Go straight or right",
    "Go straight or left",
    "Keep right",
    "Keep left",
    "Roundabout mandatory",
    "End of no passing",
    "End of no passing by vehicles over 3.5 metric tons",
)
"""The 43 signs, which the raw data only number."""


class Signs(RawSource):
    """`Final_Training/Images/<number>/*.ppm`: whole frames, in runs of 30 of one physical sign."""

    name = "traffic_sign"
    sizes = (0, 0, 43)
    origin = Origin(
        title="German Traffic Sign Recognition Benchmark",
        licence="for research",
        page="https://benchmark.ini.rub.de",
        downloads=(
            Download(
                "GTSRB_Final_Training_Images.zip",
                "0.3 GB",
                "https://sid.erda.dk/public/archives/daaeac0d7ce1152aea9b61d9f1e19370/"
                "GTSRB_Final_Training_Images.zip",
                landmarks=((f"{FOLDER}/00042",),),
                weak=((FOLDER,),),
                archives=("*gtsrb*",),
            ),
        ),
    )

    @cached_property
    def folder(self) -> RawFolder:
        """The folder `Final_Training/Images`."""
        return need_folder(self.need(self.origin.downloads[0]), FOLDER)

    def class_names(self) -> list[str]:
        """Numbered from 00."""
        return [f"{number:02d}.{sign}" for number, sign in enumerate(SIGNS)]

    def splits(self) -> ClassNames:
        """All signs are test classes."""
        return all_test(self.class_names())

    def images(self, splits: ClassNames) -> list[ClassImages]:
        """The frames of a sign, sorted and then shuffled, so that neighbours are no sequence."""
        return [ImageFiles(self._frames(int(name[:2]))) for name in in_order(splits)]

    def _frames(self, number: int) -> tuple[RawFile, ...]:
        listed = files_in(need_folder(self.folder, f"{number:05d}"))
        frames = [file for file in listed if file.base != f"GT-{number:05d}.csv"]
        RandomState(SPLIT_SEED + 1).shuffle(frames)  # type: ignore[arg-type]
        return tuple(frames)
