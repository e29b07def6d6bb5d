"""The work of an evaluation: cut into pieces, given to whoever there is, rows taken back."""

from fewshot.work.bench import Bench, Order
from fewshot.work.crew import Crew
from fewshot.work.driver import evaluate
from fewshot.work.muster import muster

__all__ = ["Bench", "Crew", "Order", "evaluate", "muster"]
