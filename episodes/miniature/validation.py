"""Fresh images of the classes that a classifier of the miniature's ImageNet is trained on.

The records of a train class hold all its images, so there is nothing left to test a classifier
on. These are drawn by the same hands, with the numbers after those in the records, and laid out
as ImageNet's validation images usually are: a folder per class.
"""

import io
from pathlib import Path

from episodes.faults import writing
from episodes.miniature.records import MINIATURE_VERSION, image_rng
from episodes.miniature.table import TABLE
from episodes.protocol import Split
from episodes.records import CACHE_ELSEWHERE, cache_folder
from episodes.tfrecord import replacing

SOURCE = "ilsvrc_2012"
IMAGES_PER_CLASS = 2


def draw_validation(folder: Path | None = None) -> Path:
    """Draw the validation images that are not there yet.

    Args:
        folder: where the class folders shall lie; None is a folder in the user's cache.

    Returns:
        The folder: `<class name>/<number>.JPEG`, two images of each train class.

    Raises:
        InputError: the folder cannot be written.
    """
    folder = folder or cache_folder() / f"miniature-v{MINIATURE_VERSION}-validation"
    for class_id, one in enumerate(TABLE[SOURCE].classes[Split.TRAIN]):
        genome = None
        for image in range(one.images, one.images + IMAGES_PER_CLASS):
            path = folder / one.name / f"{image:04d}.JPEG"
            if path.exists():
                continue
            genome = genome or one.genome(image_rng(SOURCE, class_id, None))
            buffer = io.BytesIO()
            picture = genome.paint(image_rng(SOURCE, class_id, image))
            picture.convert("RGB").save(buffer, "JPEG", quality=95)
            with writing(path, CACHE_ELSEWHERE), replacing(path) as temporary:
                temporary.write_bytes(buffer.getvalue())
    return folder
