"""The page on analysis is run, block by block, on a folder of runs."""

import re
from pathlib import Path

import pytest

from baselines.published import read_published

PAGE = Path(__file__).resolve().parents[3] / "docs" / "analysis.md"


def test_the_page_runs(
    tmp_path: Path, fill, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    skills = {
        (head, source): skill
        for head, skill in (("finetune", 0.6), ("sur", 0.5))
        for source in ("dtd", "omniglot")
    }
    for seed in (0, 1):
        fill(tmp_path / "runs" / str(seed), skills, 40, seed)
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)
    names: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, str(PAGE), "exec"), names)
    out = capsys.readouterr().out
    assert re.search(r"dtd: \+\d+\.\d\d ± \d\.\d\d, p = ", out)
    assert names["means"].loc["finetune", "dtd"] == pytest.approx(0.6, abs=0.05)  # type: ignore[attr-defined]
    assert set(names["ranks"]) == {
        *(e.method for e in read_published("imagenet")),
        "finetune",
        "sur",
    }  # type: ignore[call-overload]
    assert "no results on ILSVRC (test)" in out
