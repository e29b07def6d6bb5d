"""Small folders of pictures, in the layouts of a validation set and of the release."""

import numpy as np
from PIL import Image

CLASSES = ("n001", "n002", "n003")


def write_validation(folder, strangers=("n009",)):
    """Three classes of two pictures: n001 dark, n002 middling, n003 bright; and strangers."""
    rng = np.random.RandomState(0)
    for place, name in enumerate((*CLASSES, *strangers)):
        (folder / name).mkdir(parents=True)
        for image in range(2):
            levels = rng.randint(60 * place + 20, 60 * place + 60, (260, 300 + 20 * image, 3))
            Image.fromarray(levels.astype(np.uint8)).save(folder / name / f"{image}.JPEG")
    return folder


def write_release(folder, corruptions, severities=(1, 2, 3, 4, 5), classes=CLASSES, side=224):
    """Flat pictures, whose level says class, severity and number."""
    for corruption in corruptions:
        for severity in severities:
            for place, name in enumerate(classes):
                where = folder / corruption / str(severity) / name
                where.mkdir(parents=True)
                for image in range(2):
                    level = 60 * place + 5 * severity + image
                    picture = Image.new("RGB", (side, side), (level,) * 3)
                    picture.save(where / f"{image}.JPEG", quality=95)
    return folder
