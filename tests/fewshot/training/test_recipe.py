"""Recipes: what the rate is at every step, and what cannot be followed."""

import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from episodes.faults import InputError
from fewshot.training.recipe import Recipe

PROJECT = Path(__file__).resolve().parents[3]


def test_restarts_fall_to_zero_every_period():
    recipe = Recipe(learning_rate=0.03, schedule="restarts", period=10, warmup=0)
    rates = [recipe.rate(step, 100) for step in (0, 5, 10, 15, 95)]
    assert rates == pytest.approx([0.03, 0.015, 0.03, 0.015, 0.015])
    assert recipe.rate(9, 100) == pytest.approx(0.03 * 0.0244717, rel=1e-4)


def test_restarts_begin_after_the_warm_up():
    recipe = Recipe(learning_rate=1.0, schedule="restarts", period=10, warmup=0.2)
    assert [recipe.rate(step, 20) for step in (0, 3, 4, 9)] == pytest.approx([0.2, 0.8, 1.0, 0.5])


def test_a_constant_rate_stays():
    recipe = Recipe(learning_rate=0.004, schedule="constant", warmup=0)
    assert {recipe.rate(step, 50_000) for step in (0, 1, 49_999)} == {0.004}


def test_another_optimiser_follows_the_same_schedule():
    recipe = Recipe(learning_rate=0.03, warmup=0)
    assert recipe.rate(25, 100, highest=0.1) == pytest.approx(recipe.rate(25, 100) / 0.3)


def test_a_card_of_before_a_setting_existed_means_its_default():
    known = {"epochs": 5, "batch_size": 16, "gone": 1}
    assert Recipe.of(known) == Recipe(epochs=5, batch_size=16)
    recipe = Recipe(shares=(7, 1), ema=0.5)
    assert Recipe.of(asdict(recipe) | {"shares": [7, 1]}) == recipe


def test_a_batch_parts_by_its_shares():
    recipe = Recipe(batch_size=896, shares=(7, 1, 1, 1, 1, 1, 1, 1))
    assert recipe.parts(8) == (448, 64, 64, 64, 64, 64, 64, 64)
    assert Recipe(batch_size=12).parts(3) == (4, 4, 4)
    with pytest.raises(InputError, match=r"does not part by 7 : 1.*multiple of 8"):
        replace(recipe, batch_size=12, shares=(7, 1)).parts(2)


@pytest.mark.parametrize(
    "change",
    [
        {"schedule": "linear"},
        {"batch_size": 0},
        {"batch_size": 4, "accumulate": 4},
        {"ema": 1.0},
        {"held_out": -0.1},
        {"weight_decay": float("nan")},
        {"epochs": 0},
        {"seed": 2**63},
        {"shares": (0, 1)},
        {"select": "few_shot", "validation_episodes": 0},
    ],
)
def test_what_cannot_be_followed_is_refused(change):
    with pytest.raises(InputError):
        replace(Recipe(), **change).check()
    assert Recipe().check() == Recipe()


def test_settings_import_no_torch():
    code = "import sys, fewshot.training.settings; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, cwd=PROJECT).returncode == 0
