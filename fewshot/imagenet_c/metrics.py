"""From errors to one number, under names that cannot be confused. Errors are fractions.

`mean_corruption_error`: the plain mean of the errors on the 15 corruptions.
`mce_alexnet`: each corruption's error over AlexNet's first, then the mean; what papers call mCE.
`relative_mce_alexnet`: the same of what corruption adds to the clean error.

A number over an incomplete set is None, never a mean over what happens to be there.

Source: Hendrycks & Dietterich 2019, section 3.3.
"""

from collections.abc import Mapping

from fewshot.imagenet_c.corruptions import COUNTED, SEVERITIES
from fewshot.imagenet_c.folders import CLEAN, Cell

ALEXNET = {
    "gaussian_noise": 0.886428,
    "shot_noise": 0.894468,
    "impulse_noise": 0.922640,
    "defocus_blur": 0.819880,
    "glass_blur": 0.826268,
    "motion_blur": 0.785948,
    "zoom_blur": 0.798360,
    "snow": 0.866816,
    "frost": 0.826572,
    "fog": 0.819324,
    "brightness": 0.564592,
    "contrast": 0.853204,
    "elastic_transform": 0.646056,
    "pixelate": 0.717840,
    "jpeg_compression": 0.606500,
}
"""AlexNet's top-1 error on the release, mean over the severities, all 1000 classes."""
ALEXNET_CLEAN = 0.4345
"""AlexNet's top-1 error on the clean validation images."""

Errors = Mapping[Cell, float]


def corruption_error(errors: Errors, name: str) -> float | None:
    """Mean error of a corruption over its five severities; None unless all are there."""
    found = [errors[name, severity] for severity in SEVERITIES if (name, severity) in errors]
    return sum(found) / len(found) if len(found) == len(SEVERITIES) else None


def mean_corruption_error(errors: Errors) -> float | None:
    """Mean of the errors on the 15 corruptions: raw, not divided by anything."""
    return _mean([corruption_error(errors, name) for name in COUNTED])


def mce_alexnet(errors: Errors) -> float | None:
    """Mean over the 15 corruptions of the error divided by AlexNet's."""
    return _mean([_over(corruption_error(errors, name), ALEXNET[name]) for name in COUNTED])


def relative_mce_alexnet(errors: Errors) -> float | None:
    """Mean over the 15 corruptions of (error − clean error) divided by AlexNet's."""
    if CLEAN not in errors:
        return None
    added = [
        _over(corruption_error(errors, name), ALEXNET[name] - ALEXNET_CLEAN, errors[CLEAN])
        for name in COUNTED
    ]
    return _mean(added)


def _over(error: float | None, reference: float, clean: float = 0.0) -> float | None:
    return None if error is None else (error - clean) / reference


def _mean(values: list[float | None]) -> float | None:
    present = [value for value in values if value is not None]
    return sum(present) / len(present) if len(present) == len(values) else None
