"""Plans to pixels: episode i is a function of (protocol, source, split, seed, i).

PyTorch is imported by the first tensor that is asked for: opening sources, planning and packing
take a quarter of its memory.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from episodes.faults import InputError, unknown_name
from episodes.images import IMAGE_RULES, Floats, Pixels, to_unit_range
from episodes.packs import Pack, find_pack, pack_folder
from episodes.pixels import DecodedImages
from episodes.plan import EpisodePlan, Integers
from episodes.plan_file import PlanFile, read_plans
from episodes.protocol import EpisodeProtocol, Split
from episodes.sampling import EpisodeSampler
from episodes.source import find_spec, open_source

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, eq=False)
class Episode:
    """A few-shot task.

    Attributes:
        plan: what was drawn.
        support_images: float32 [support, 3, size, size] in [−1, 1], sorted by label.
        support_labels: int64 [support], 0 to way − 1.
        query_images, query_labels: likewise.
    """

    plan: EpisodePlan
    support_images: "Tensor"
    support_labels: "Tensor"
    query_images: "Tensor"
    query_labels: "Tensor"

    @property
    def way(self) -> int:
        """Number of classes."""
        return self.plan.way


class ImageReader:
    """Reads images of one split of one source as tensors.

    Args:
        records: the folder that holds a folder per source, converted or in the TFDS layout.
        source: the name of that folder, e.g. "omniglot", or `name=folder` for a folder of
            class folders of images.
        split: "train", "valid" or "test".
        size: side of the square images, in pixels.
        rule: how bytes become pixels: one of `IMAGE_RULES`.
        packs: the folder that packs were written to; None is each source's own. A pack that
            matches is read instead of the records, with the same pixels to the last bit.

    Attributes:
        spec: of the source.
        encoded: the images before decoding.
        rule: the name of the image rule.
        pack: what is read instead of the records, or None.
        unpacked_because: why a pack that is there is not read, in a sentence: stale or damaged.

    Raises:
        InputError: the source is missing or broken.
    """

    def __init__(
        self,
        records: str | Path,
        source: str,
        split: Split | str,
        size: int = 84,
        rule: str = "official",
        packs: str | Path | None = None,
    ) -> None:
        if size < 1:
            raise InputError(f"image size {size} is not positive.")
        if rule not in IMAGE_RULES:
            raise unknown_name("image rule", rule, IMAGE_RULES)
        self.split = Split.parse(split)
        self.size, self.rule = size, rule
        self.encoded = open_source(records, source, self.split)
        self.spec = self.encoded.spec
        self._decoded = DecodedImages(self.encoded, size, rule)
        folder = pack_folder(self.spec, packs)
        found = find_pack(folder, self.encoded, self.split, rule, size)
        self.pack = found if isinstance(found, Pack) else None
        self.unpacked_because = found if isinstance(found, str) else ""

    def read(self, class_ids: Integers, images: Integers) -> "Tensor":
        """Images in the order asked for, on as many threads as torch uses.

        Args:
            class_ids: [n] class id of each image.
            images: [n] number of each image in the file of its class.

        Returns:
            float32 [n, 3, size, size] in [−1, 1].

        Raises:
            InputError: a file is missing or damaged, or an image does not decode.
        """
        import torch

        return torch.from_numpy(self.read_array(class_ids, images, torch.get_num_threads()))

    def read_array(self, class_ids: Integers, images: Integers, threads: int) -> Floats:
        """The same as an array, without PyTorch.

        Args:
            class_ids, images: as for `read`.
            threads: that read and decode. The pixels are the same.

        Returns, Raises: as `read`.
        """
        if self.pack is not None:
            return to_unit_range(self.pack.read(class_ids, images))
        return to_unit_range(self._decoded.read(class_ids, images, threads))

    def decode(self, class_ids: Integers, images: Integers) -> Iterator[tuple[int, Pixels]]:
        """Images as they are stored, one at a time, not resized; from records, never from packs.

        Args:
            class_ids, images: as for `read`.

        Yields:
            An image's place in the arguments, and uint8 [height, width, 3] RGB; class by class.

        Raises:
            InputError: as for `read`.
        """
        return self._decoded.decode(class_ids, images)


class EpisodeReader:
    """The endless list of episodes of one split of one source.

    Args:
        records, source: as for `ImageReader`.
        split: "train", "valid" or "test".
        protocol: an `EpisodeProtocol` or the name of one.
        seed: another seed is another list of episodes.
        size: side of the images, in pixels.
        rule: how bytes become pixels.
        packs: where packs are, as for `ImageReader`.

    Raises:
        InputError: the source is missing or broken, or too small for the protocol.
    """

    def __init__(
        self,
        records: str | Path,
        source: str,
        split: Split | str,
        protocol: EpisodeProtocol | str = "md-v1",
        seed: int = 0,
        size: int = 84,
        rule: str = "official",
        packs: str | Path | None = None,
    ) -> None:
        self.images = ImageReader(records, source, split, size, rule, packs)
        self.sampler = EpisodeSampler(self.images.spec, split, protocol)
        self.seed = seed

    def plan(self, index: int) -> EpisodePlan:
        """Episode number `index` without its pixels."""
        if index < 0:
            raise IndexError(f"episode {index}: episodes are numbered from 0")
        return self.sampler.plan(self.seed, index)

    def read(self, plan: EpisodePlan) -> Episode:
        """The pixels of a plan.

        Raises:
            InputError: a file is missing or damaged, or an image does not decode.
        """
        import torch

        class_ids = np.concatenate([plan.support_class_ids, plan.query_class_ids])
        numbers = np.concatenate([plan.support_images, plan.query_images])
        support, query = self.images.read(class_ids, numbers).split(
            [len(plan.support_images), len(plan.query_images)]
        )
        return Episode(
            plan=plan,
            support_images=support,
            support_labels=torch.from_numpy(plan.support_labels),
            query_images=query,
            query_labels=torch.from_numpy(plan.query_labels),
        )

    def __getitem__(self, index: int) -> Episode:
        """Episode number `index`; the list has no end."""
        return self.read(self.plan(index))


class PlannedReader(EpisodeReader):
    """The episodes of a plan file: those and no others.

    Args:
        records, size, rule, packs: as for `EpisodeReader`.
        plans: a plan file, or its path; source, split, protocol and seed are the file's.
        source: `name=folder` where the file's source is a folder of images.

    Raises:
        InputError: the plan file is missing, damaged or changed, or names classes or images
            that these records do not have.
    """

    def __init__(
        self,
        records: str | Path,
        plans: PlanFile | str | Path,
        size: int = 84,
        rule: str = "official",
        packs: str | Path | None = None,
        source: str | None = None,
    ) -> None:
        file = plans if isinstance(plans, PlanFile) else read_plans(Path(plans))
        source = source or file.source
        file.check(find_spec(records, source))
        super().__init__(records, source, file.split, file.protocol, file.seed, size, rule, packs)
        self.plans = file

    def __len__(self) -> int:
        return len(self.plans)

    def plan(self, index: int) -> EpisodePlan:
        """Episode number `index` of the file.

        Raises:
            InputError: the file holds fewer episodes.
        """
        return self.plans.plan(index)
