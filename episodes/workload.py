"""What an evaluation will read and compute, known before it runs: plans alone say it."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from episodes.plan import Integers
from episodes.sampling import EpisodeSampler
from episodes.source import ClassBytes
from episodes.spec import SourceSpec


@dataclass(frozen=True)
class Spread:
    """Mean, least and greatest of some numbers."""

    mean: float
    least: int
    greatest: int

    @classmethod
    def of(cls, numbers: Integers) -> "Spread":
        return cls(float(numbers.mean()), int(numbers.min()), int(numbers.max()))


@dataclass(frozen=True)
class Workload:
    """Some episodes of one source, summed up.

    Attributes:
        source: its name.
        episodes: how many.
        ways: classes per episode.
        shots: support images per class.
        support, queries: images per episode that are learned from, and that are classified.
        images: support and query images of all episodes, with repetition.
        unique_images: distinct images among them: what is read, decoded and embedded.
        unique_bytes: of their records on disk, or None where class files are missing. Estimated:
            each image counts as the mean image of its class.
        missing_files: used classes whose files are missing.
        largest: images in the largest episode, support and query together.
    """

    source: str
    episodes: int
    ways: Spread
    shots: Spread
    support: Spread
    queries: Spread
    images: int
    unique_images: int
    unique_bytes: int | None
    missing_files: int
    largest: int

    @property
    def reuse(self) -> float:
        """Episodes that an image is used in, on average over the images that are used."""
        return self.images / self.unique_images


def measure_workload(
    sampler: EpisodeSampler,
    seed: int,
    episodes: int,
    class_bytes: ClassBytes,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Workload:
    """Sum up episodes 0 to `episodes` − 1 (at least one) of a sampler.

    Args:
        class_bytes: what the classes weigh, from `survey_source`.
        progress: called with episodes drawn and episodes to draw.

    Raises:
        InputError: as for `EpisodeSampler.describe`.
    """
    starts = np.concatenate([[0], np.cumsum(sampler.class_sizes)])
    used = np.zeros(starts[-1], dtype=np.bool_)
    first = sampler.spec.split_classes[sampler.split].start
    ways, shots, supports, queries = [], [], [], []
    for index in range(episodes):
        plan = sampler.plan(seed, index)
        used[starts[plan.support_class_ids - first] + plan.support_images] = True
        used[starts[plan.query_class_ids - first] + plan.query_images] = True
        ways.append(plan.way)
        shots.append(plan.shots)
        supports.append(len(plan.support_images))
        queries.append(len(plan.query_images))
        progress(index + 1, episodes)
    support, query = np.asarray(supports), np.asarray(queries)
    per_class = map(np.count_nonzero, np.split(used, starts[1:-1]))
    unique = {first + i: int(count) for i, count in enumerate(per_class) if count}
    unique_bytes, missing = bytes_of_images(sampler.spec, unique, class_bytes)
    return Workload(
        source=sampler.spec.name,
        episodes=episodes,
        ways=Spread.of(np.asarray(ways)),
        shots=Spread.of(np.concatenate(shots)),
        support=Spread.of(support),
        queries=Spread.of(query),
        images=int(support.sum() + query.sum()),
        unique_images=sum(unique.values()),
        unique_bytes=unique_bytes,
        missing_files=missing,
        largest=int((support + query).max()),
    )


def bytes_of_images(
    spec: SourceSpec, images: dict[int, int], class_bytes: ClassBytes
) -> tuple[int | None, int]:
    """Bytes of so many images per class id, and the number of classes whose files are missing.

    An image counts as the mean of its class, framing included; exact where all images of a class
    are wanted. None where a file is missing.
    """
    total, missing = 0.0, 0
    for class_id, count in images.items():
        try:
            total += class_bytes(class_id) * count / spec.images_per_class[class_id]
        except OSError:
            missing += 1
    return (None if missing else round(total)), missing
