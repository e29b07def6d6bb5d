"""A row that contradicts itself is refused."""

from dataclasses import replace

import pytest

from fewshot.results.rows import ClassCount, EpisodeRow

CLASSES = (ClassCount(7, 10, 6, 3), ClassCount(2, 5, 4, 0))
ROW = EpisodeRow("sur", "dtd", "test", 0, 4, 0.3, 2, 15, 10, 3, "plan", 0.5, classes=CLASSES)


@pytest.mark.parametrize("accuracy", [float("nan"), 0.31, 3.0])
def test_a_row_that_contradicts_itself_is_refused(accuracy: float) -> None:
    with pytest.raises(ValueError, match="accuracy"):
        replace(ROW, accuracy=accuracy)


def test_a_row_without_queries_is_refused() -> None:
    with pytest.raises(ValueError, match="0 of 0"):
        replace(ROW, query_count=0, correct=0, classes=())


def test_a_failed_episode_has_a_reason_and_no_accuracy() -> None:
    failed = replace(ROW, accuracy=None, correct=0, classes=(), status="failed: out of memory")
    assert ROW.ok and not failed.ok
    for wrong in ({"accuracy": 0.3}, {"correct": 3}, {"status": "broken"}, {"status": "ok"}):
        with pytest.raises(ValueError, match="accuracy"):
            replace(failed, **wrong)


@pytest.mark.parametrize(
    "changes",
    [{"way": 3}, {"support_size": 14}, {"query_count": 20, "accuracy": 0.15}, {"correct": 4}],
)
def test_classes_add_up(changes: dict[str, float]) -> None:
    changes = {"accuracy": 0.4} | changes if "correct" in changes else changes
    with pytest.raises(ValueError, match="add up"):
        replace(ROW, **changes)
    with pytest.raises(ValueError, match="add up"):
        replace(ROW, classes=(ClassCount(7, 10, 2, 3), ClassCount(2, 5, 8, 0)))


def test_guesses_and_what_heads_tell_are_numbers_that_fit() -> None:
    replace(ROW, guesses=(0, 1) * 5, told={"selection": [0.5, 0.5]})
    for guesses in ((0, 1), (0, 2) * 5, (0, -1) * 5):
        with pytest.raises(ValueError, match="guesses of 10 queries"):
            replace(ROW, guesses=guesses)
    for value in (float("nan"), float("inf")):
        with pytest.raises(ValueError, match="not finite"):
            replace(ROW, told={"selection": [1.0, value]})
