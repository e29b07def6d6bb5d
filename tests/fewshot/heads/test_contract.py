"""The contract of fewshot/heads/base.py, held against every head of the table."""

from collections.abc import Callable
from pathlib import Path

import pytest

from fewshot.heads import HEADS, Head, build_head
from fewshot.heads.urt import initial_attention, save_attention
from tests.fewshot.heads import contract

CASES = [*HEADS, "prototypical:distance=cosine", "finetune:layers=all,steps=40,backbone_lr=0.001"]
CASES += ["finetune:normalise=false"]
CASES += ["knn:distance=euclidean", "matching:attention=mean"]
CASES += ["logistic:C=0,normalise=false", "ridge:penalty=1,normalise=true"]
CASES += ["anil:start=prototypes,lr=0.001", "mahalanobis:one_shot=zero", "url:distance=euclidean"]
CASES += ["ncc_cosine:unit_first=true", "bd_cspn:normalise=true", "pmf:augment=false"]
CASES += ["pt_map:centre=false,rounds=30,step=0.3", "flute:start=scratch,steps=4,lr=0.005"]
CASES += ["flute:statistics=stored"]
EXCEPTIONS = {
    ("pmf", contract.check_support_order): "draws a change of each image in turn",
}


def build(text: str, folder: Path) -> Head:
    """The head of a case; URT with the attention it has before training."""
    if text != "urt":
        return build_head(text)
    save_attention(folder / "urt.safetensors", initial_attention(3, 48, heads=2, seed=0))
    return build_head("urt", weights=str(folder / "urt.safetensors"))


@pytest.mark.parametrize("check", contract.CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("text", CASES)
def test_head_keeps_the_contract(text: str, check: Callable[[Head], None], tmp_path: Path) -> None:
    if (text, check) not in EXCEPTIONS:
        check(build(text, tmp_path))


@pytest.mark.parametrize("name", HEADS)
def test_settings_cannot_be_changed_in_place(name: str) -> None:
    with pytest.raises(AttributeError):
        setattr(build_head(name), "steps", 3)  # noqa: B010
