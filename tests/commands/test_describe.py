"""The command `describe`: one row per source, and what it says of missing things."""

import io
import json
import re
import shutil

import pytest
import tyro
from rich.console import Console

from commands import describe
from episodes import SOURCES, EpisodeSampler, InputError, load_spec
from episodes.source import survey_source
from episodes.workload import measure_workload


def run(*arguments, width=120):
    output = io.StringIO()
    command = tyro.cli(describe.Command, args=[str(argument) for argument in arguments])
    assert describe.run(command, Console(file=output, width=width)) == 0
    return output.getvalue()


def rows(output):
    """Source → its cells."""
    cells = (re.split(r"\s{2,}", line.strip()) for line in output.splitlines())
    return {line[0]: line[1:] for line in cells if len(line) > 4}


def test_all_sources_of_the_protocol(miniature):
    output = run("--records", miniature, "--episodes", 20)
    table = rows(output)
    assert list(table) == ["source", *SOURCES, "all"]
    assert "20 episodes per source, test classes, protocol md-v1 (5a26a02bb3fdb430)" in output
    assert "Not in" not in output and "missing" not in output
    spec, class_bytes = survey_source(miniature, "dtd")
    work = measure_workload(EpisodeSampler(spec, "test"), 0, 20, class_bytes)
    ways, shots, images, unique, reuse, size, largest = table["dtd"]
    assert ways == f"{work.ways.mean:.1f} ({work.ways.least}–{work.ways.greatest})"
    assert shots == f"{work.shots.mean:.1f} ({work.shots.least}–{work.shots.greatest})"
    assert (images, unique) == (f"{work.images:,}", f"{work.unique_images:,}")
    assert reuse == f"{work.reuse:.1f}×" and largest == f"{work.largest:,}"
    assert float(size.split()[0]) == pytest.approx(work.unique_bytes / 1000, abs=0.06)
    total = [int(table[source][2].replace(",", "")) for source in SOURCES]
    assert table["all"][0] == f"{sum(total):,}"


def test_the_table_fits_a_terminal_of_80_columns(miniature):
    output = run("--records", miniature, "--episodes", 5, width=80)
    assert set(rows(output)) >= set(SOURCES)
    assert max(map(len, output.splitlines())) <= 80


def test_md_v2_has_other_sources(miniature):
    output = run("--records", miniature, "--episodes", 2, "--protocol", "md-v2")
    assert set(rows(output)) - {"source", "all"} == set(SOURCES) - {"ilsvrc_2012", "vgg_flower"}
    output = run("--records", miniature, "--episodes", 2, "--protocol", "md-v2", "--split", "train")
    assert "Not in" in output and "ilsvrc_2012_v2" in output


def test_named_sources_only(miniature):
    output = run("--records", miniature, "--sources", "fungi", "--episodes", 2)
    assert set(rows(output)) == {"source", "fungi"}
    with pytest.raises(
        InputError, match=r"funghi: there is no such folder\. Did you mean 'fungi'\?"
    ):
        run("--records", miniature, "--sources", "funghi")


def test_a_source_named_twice_is_described_once(miniature):
    output = run("--records", miniature, "--sources", "fungi", "fungi", "--episodes", 2)
    assert set(rows(output)) == {"source", "fungi"}  # and no row of sums


def test_missing_class_files_are_said(miniature, tmp_path):
    shutil.copytree(miniature / "dtd", tmp_path / "dtd")
    spec = load_spec(tmp_path / "dtd")
    for class_id in spec.split_classes["test"]:
        spec.class_file(class_id).unlink()
    output = run("--records", tmp_path, "--episodes", 9)
    assert rows(output)["dtd"][5] == "unknown"
    assert f"bytes are unknown: dtd {len(spec.split_classes['test'])}." in " ".join(output.split())
    assert "Not in" in output


def test_a_folder_of_images(tmp_path):
    for name in "abcdefghij":
        (tmp_path / "own" / name).mkdir(parents=True, exist_ok=True)
    classes = {split: list(part) for split, part in (("train", ""), ("valid", ""))}
    (tmp_path / "own" / "splits.json").write_text(
        json.dumps(classes | {"test": list("abcdefghij")})
    )
    for name in "abcdefghij":
        for number in range(12):
            (tmp_path / "own" / name / f"{number}.jpg").write_bytes(b"\xff\xd8\xff" + bytes(997))
    output = run("--records", tmp_path, "--sources", f"mine={tmp_path / 'own'}", "--episodes", 9)
    table = rows(output)["mine"]
    assert table[5] == f"{table[3]}.0 kB"  # 1000 bytes a file


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--episodes", 0), "--episodes is 0"),
        (("--seed", -1), "--seed is -1"),
        (("--split", "dev"), "unknown split 'dev'"),
        (("--protocol", "md-v3"), "unknown protocol"),
        (("--sources", "traffic_sign", "--split", "train"), "train split has 0 classes"),
    ],
)
def test_wrong_flags(miniature, arguments, message):
    with pytest.raises(InputError, match=message):
        run("--records", miniature, *arguments)


def test_a_folder_without_sources(tmp_path):
    with pytest.raises(InputError, match=r"holds none of the test sources of md-v1 \(ilsvrc_2012"):
        run("--records", tmp_path)
