"""Every number under its name, worked out by hand."""

import pytest

from fewshot.imagenet_c.corruptions import CORRUPTIONS, COUNTED, SEVERITIES
from fewshot.imagenet_c.folders import CLEAN
from fewshot.imagenet_c.metrics import (
    ALEXNET,
    ALEXNET_CLEAN,
    corruption_error,
    mce_alexnet,
    mean_corruption_error,
    relative_mce_alexnet,
)


def errors_like(level):
    """The same mean error on every corruption, spread over the severities."""
    return {
        (name, severity): level + 0.1 * (severity - 3)
        for name in CORRUPTIONS
        for severity in SEVERITIES
    }


def test_alexnet_has_an_error_for_each_that_counts():
    assert set(ALEXNET) == set(COUNTED)
    assert all(ALEXNET_CLEAN < error < 1 for error in ALEXNET.values())


def test_a_corruptions_error_is_the_mean_of_its_severities():
    errors = {("fog", severity): severity / 10 for severity in SEVERITIES}
    assert corruption_error(errors, "fog") == pytest.approx(0.3)


def test_a_missing_severity_is_missing_and_no_smaller_mean():
    errors = errors_like(0.5)
    del errors["fog", 5]
    assert corruption_error(errors, "fog") is None
    assert mean_corruption_error(errors) is None
    assert mce_alexnet(errors) is None
    assert relative_mce_alexnet(errors | {CLEAN: 0.2}) is None


def test_the_extra_four_do_not_count():
    errors = errors_like(0.5)
    for severity in SEVERITIES:
        del errors["saturate", severity]
        errors["spatter", severity] = 1.0
    assert mean_corruption_error(errors) == pytest.approx(0.5)


def test_raw_and_alexnet_normalised_by_hand():
    errors = errors_like(0.4)
    for severity in SEVERITIES:
        errors["fog", severity] = 0.819324  # AlexNet's own: its share is exactly 1
        errors["snow", severity] = 0.433408  # half of AlexNet's 0.866816
    assert mean_corruption_error(errors) == pytest.approx((13 * 0.4 + 0.819324 + 0.433408) / 15)
    others = sum(0.4 / ALEXNET[name] for name in COUNTED if name not in ("fog", "snow"))
    assert mce_alexnet(errors) == pytest.approx((others + 1 + 0.5) / 15)
    assert mce_alexnet(errors) != pytest.approx(mean_corruption_error(errors), abs=0.05)


def test_alexnet_itself_is_at_one_in_both():
    errors = {(name, severity): ALEXNET[name] for name in COUNTED for severity in SEVERITIES}
    errors[CLEAN] = ALEXNET_CLEAN
    assert mce_alexnet(errors) == pytest.approx(1)
    assert relative_mce_alexnet(errors) == pytest.approx(1)


def test_relative_by_hand_and_only_with_the_clean_error():
    errors = {(name, severity): ALEXNET[name] for name in COUNTED for severity in SEVERITIES}
    assert relative_mce_alexnet(errors) is None
    # 0.1 less clean error: every corruption adds 0.1 more
    added = [(ALEXNET[n] - 0.3345) / (ALEXNET[n] - 0.4345) for n in COUNTED]
    assert relative_mce_alexnet(errors | {CLEAN: 0.3345}) == pytest.approx(sum(added) / 15)
