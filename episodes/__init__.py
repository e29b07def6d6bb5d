"""Meta-Dataset as episodes: official records in, episode number i out."""

from typing import TYPE_CHECKING, Any

from episodes.faults import InputError
from episodes.plan import EpisodePlan, hash_plans
from episodes.protocol import PROTOCOLS, SOURCES, EpisodeProtocol, Split
from episodes.sampling import EpisodeSampler
from episodes.spec import load_spec

if TYPE_CHECKING:
    from episodes.reader import Episode, EpisodeReader, ImageReader, PlannedReader
    from episodes.tf_data import tf_dataset

__all__ = [
    "PROTOCOLS",
    "SOURCES",
    "Episode",
    "EpisodePlan",
    "EpisodeProtocol",
    "EpisodeReader",
    "EpisodeSampler",
    "ImageReader",
    "InputError",
    "PlannedReader",
    "Split",
    "hash_plans",
    "load_spec",
    "tf_dataset",
]


def __getattr__(name: str) -> Any:
    """Import decoders only for the names that need them: plans and specifications do not."""
    if name in ("Episode", "EpisodeReader", "ImageReader", "PlannedReader"):
        from episodes import reader

        return getattr(reader, name)
    if name == "tf_dataset":
        from episodes import tf_data

        return tf_data.tf_dataset
    raise AttributeError(f"module 'episodes' has no attribute '{name}'")
