"""The paragraph answers what readers of papers ask."""

from pathlib import Path

from episodes.plan import hash_of_hashes
from fewshot.results import RowStore, load
from fewshot.results.collection import collect_runs
from fewshot.results.paragraph import plans_of, write_paragraph


def test_the_paragraph(tmp_path: Path, fill) -> None:
    fill(tmp_path, {("sur", "dtd"): 0.5, ("finetune", "dtd"): 0.5, ("sur", "fungi"): 0.5}, 3)
    rows = load(tmp_path).episodes
    (run,) = (stored.run for stored in collect_runs(tmp_path).runs)
    text = write_paragraph(run, rows)
    plans = hash_of_hashes([f"plan-dtd-0-{i}" for i in range(3)])
    assert plans_of(rows)["dtd"] == plans
    for words in (
        "We evaluate finetune and sur on the test classes of dtd and fungi",
        "protocol md-v1 version 1 (aaaa)",
        "Each source has 3 episodes (seed 0)",
        f"dtd {plans}",
        "84 × 84 pixels by the image rule official",
        "The backbone resnet18 (weights 0123456789abcdef) was trained on ilsvrc_2012, "
        "2 train classes at 84 pixels (epochs 90)",
        "sur is inductive.",
        "1.96·σ/√n",
        "torch 2.14.1; commit cccccccccccc",
    ):
        assert words in text, words
    assert "gave no accuracy" not in text


def test_what_is_not_known_is_said(tmp_path: Path) -> None:
    with RowStore(tmp_path / "rows.sqlite") as store:
        store.begin({"seed": 0})
        (run,) = store.runs()
    text = write_paragraph(run, load(tmp_path).episodes)
    assert "not recorded" in text and "No episode has been evaluated yet" in text
