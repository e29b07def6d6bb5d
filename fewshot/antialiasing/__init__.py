"""Anti-aliasing: where a network sub-samples, low-pass filters, and the surgery between them."""

from fewshot.antialiasing.filters import Filter, parse_filter
from fewshot.antialiasing.low_pass import LowPass
from fewshot.antialiasing.maps import watch_sub_sampling
from fewshot.antialiasing.steps import Step, sub_sampling_steps
from fewshot.antialiasing.surgery import antialias

__all__ = [
    "Filter",
    "LowPass",
    "Step",
    "antialias",
    "parse_filter",
    "sub_sampling_steps",
    "watch_sub_sampling",
]
