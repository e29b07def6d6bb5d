"""The table, heads as text, and the one call that scores arrays (fewshot/heads/__init__.py)."""

import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import fewshot
from episodes.faults import InputError
from fewshot import score
from fewshot.cost import HEAD_CORE_SECONDS, TUNING, head_core_seconds, tunes_backbone
from fewshot.heads import HEADS, build_head
from fewshot.heads import TUNING as TUNING_HEADS
from fewshot.heads.finetune import Finetune
from fewshot.heads.prototypical import Prototypical
from tests.fewshot.heads.drawn import draw

PROJECT = Path(__file__).resolve().parents[3]
FEATURES = torch.tensor([[0.0, 1.0], [1.0, 0.0], [0.0, 2.0]])
LABELS = torch.tensor([1, 0, 1])


@pytest.mark.parametrize("name", HEADS)
def test_table_names_are_the_heads_own_names(name: str) -> None:
    assert HEADS[name].name == name
    assert str(build_head(name)) == name
    assert all(field.default is not None for field in fields(HEADS[name]))


def test_text_is_read_by_the_type_of_the_setting() -> None:
    head = build_head("finetune: steps=20, layers=all,lr=1e-3,normalise=no")
    assert head == Finetune(layers="all", steps=20, lr=0.001, normalise=False)
    assert build_head("finetune:steps=20", lr=1) == Finetune(steps=20, lr=1.0)


def test_label_names_only_what_differs_from_the_default() -> None:
    assert str(Finetune(steps=100, lr=0.5, normalise=False)) == "finetune:lr=0.5,normalise=false"
    assert str(build_head("prototypical:distance=euclidean")) == "prototypical"


@given(
    st.builds(
        Finetune,
        layers=st.sampled_from(["head", "all"]),
        steps=st.integers(1, 10**6),
        lr=st.floats(1e-30, 1e30),
        backbone_lr=st.floats(1e-30, 1e30),
        normalise=st.booleans(),
    )
)
def test_label_is_read_back_as_the_same_head(head: Finetune) -> None:
    assert build_head(str(head)) == head


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("protypical", "unknown head 'protypical'. Did you mean 'prototypical'?"),
        ("", "unknown head ''"),
        ("finetune:stpes=3", "unknown setting of head finetune 'stpes'. Did you mean 'steps'?"),
        ("finetune:layers=al", "setting layers: unknown choice 'al'. Did you mean 'all'?"),
        ("finetune:steps=many", "setting steps: 'many' is not a whole number"),
        ("finetune:steps=1.5", "'1.5' is not a whole number"),
        ("finetune:lr=nan", "'nan' is not a number"),
        ("finetune:normalise=maybe", "'maybe' is not true or false"),
        ("finetune:steps=0", "finetune:steps=0: steps is a count, 1 or more"),
        ("finetune:lr=-1", "learning rates are positive"),
        ("sur:lr=0", "lr is positive"),
        ("sur:steps", "cannot read 'steps'"),
        ("sur:steps=1,steps=2", "'steps' is given twice"),
    ],
)
def test_bad_text_is_one_clear_message(text: str, message: str) -> None:
    with pytest.raises(InputError) as fault:
        build_head(text)
    assert message in str(fault.value)


@pytest.mark.parametrize("value", [True, "x", 2.5, None, [1]])
def test_settings_by_name_are_checked_too(value: object) -> None:
    with pytest.raises(InputError, match="is not a whole number"):
        build_head("finetune", steps=value)
    with pytest.raises(InputError, match="given twice"):
        build_head("finetune:steps=3", steps=3)


def test_score_takes_a_head_or_its_text_and_settings() -> None:
    expected = score(Prototypical("cosine"), FEATURES, LABELS, FEATURES)
    assert torch.equal(
        score("prototypical", FEATURES, LABELS, FEATURES, distance="cosine"), expected
    )
    assert torch.equal(score("prototypical:distance=cosine", FEATURES, LABELS, FEATURES), expected)
    assert torch.equal(
        score("prototypical:distance=cosine", FEATURES[None], LABELS, FEATURES[None]), expected
    )
    with pytest.raises(InputError, match="already made"):
        score(Prototypical(), FEATURES, LABELS, FEATURES, distance="cosine")


def test_score_takes_arrays_and_gives_them_back() -> None:
    support, labels = FEATURES.numpy(), LABELS.numpy()
    expected = score("ncc_cosine", FEATURES, LABELS, FEATURES)
    support.flags.writeable = False
    for dtype in (np.float16, np.float32, np.float64):
        for text, items in (("ncc_cosine", support), ("sur", np.stack([support] * 3))):
            scores = score(text, items.astype(dtype), labels, items.astype(dtype))
            assert isinstance(scores, np.ndarray) and scores.dtype == dtype
            assert scores.shape == (3, 2)
    assert np.array_equal(score("ncc_cosine", support, labels, support), expected.numpy())
    assert fewshot.score is score


def test_importing_the_package_imports_no_torch() -> None:
    code = "import sys, fewshot; assert 'torch' not in sys.modules; fewshot.score"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=PROJECT)


def test_cost_knows_the_heads_that_tune() -> None:
    assert {head.name for head in TUNING_HEADS} - {"finetune"} == set(TUNING)
    assert tunes_backbone("finetune:layers=all") and tunes_backbone("tsa:steps=3")
    assert not tunes_backbone("finetune") and not tunes_backbone("tim")


def test_cost_knows_slow_heads_from_light_ones() -> None:
    assert set(HEAD_CORE_SECONDS) <= set(HEADS)
    assert head_core_seconds("tim:lr=0.1") == HEAD_CORE_SECONDS["tim"] > head_core_seconds("knn")


FROZEN = [name for name in HEADS if name != "urt" and not build_head(name).adapts_backbone]
IMBALANCED = [1, 20, 3, 7, 1, 12, 2, 5, 17, 4, 1, 9, 6, 2, 14, 1, 3, 8, 10, 1]


@pytest.mark.parametrize("name", FROZEN)
def test_single_precision_features_score_as_the_same_in_double(name: str) -> None:
    """20 ways of 1 to 20 shots, 512 dimensions, eight extractors: rounding moves no prediction."""
    several = HEADS[name].extractors == "many"
    support, labels, query = draw(3, IMBALANCED, [512] * (8 if several else 1), signed=False)
    single = [[part.float() for part in group] for group in (support, query)]
    double = [[part.double() for part in group] for group in single]
    settings = {"steps": 50} if name == "tim" else {}
    draws = [torch.Generator().manual_seed(0) for _ in range(2)]
    found, expected = (
        score(name, features, labels, queries, generator=generator, **settings)
        for (features, queries), generator in zip((single, double), draws, strict=True)
    )
    assert found.dtype == torch.float32 and expected.dtype == torch.float64
    largest = expected.abs().max().item()
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-5 * largest)
    assert torch.equal(found.argmax(dim=1), expected.argmax(dim=1))


def test_score_of_no_query_is_empty() -> None:
    assert score("sur", FEATURES, LABELS, FEATURES[:0]).shape == (0, 2)


@pytest.mark.parametrize(
    ("support", "labels", "query", "message"),
    [
        (FEATURES, LABELS, FEATURES[:, :1], "Give both from the same extractors"),
        (FEATURES, LABELS, torch.stack([FEATURES] * 2), "Give both from the same extractors"),
        (torch.stack([FEATURES] * 2), LABELS, FEATURES, "takes one feature extractor"),
        (FEATURES[0], LABELS, FEATURES, "[N, D], or [K, N, D]"),
        (FEATURES.long(), LABELS, FEATURES, "floating-point"),
        (FEATURES[:, :0], LABELS, FEATURES[:, :0], "with D > 0"),
        ([], LABELS, FEATURES, "no feature extractor"),
        ([FEATURES, FEATURES[:2]], LABELS, FEATURES, "takes one feature extractor"),
        (FEATURES, LABELS * 10**12, FEATURES, "classes have no support item (first: class 1)"),
        (FEATURES, LABELS * 2, FEATURES, "1 of 3 classes have no support item (first: class 1)"),
        (FEATURES, LABELS - 1, FEATURES, "labels run from -1 to 0"),
        (FEATURES, LABELS.double() * float("nan"), FEATURES, "Give integers"),
        (FEATURES[:0], LABELS[:0], FEATURES, "the support set is empty"),
    ],
)
def test_bad_arrays_are_one_clear_message(
    support: torch.Tensor, labels: torch.Tensor, query: torch.Tensor, message: str
) -> None:
    with pytest.raises(InputError) as fault:
        score("prototypical", support, labels, query)
    assert message in str(fault.value)


def test_extractors_with_different_counts_are_refused() -> None:
    with pytest.raises(InputError, match="different numbers of items"):
        score("sur", [FEATURES, FEATURES[:2]], LABELS, [FEATURES, FEATURES])
