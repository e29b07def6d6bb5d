"""Random changes to training images, drawn per image by key.

The draws of an image are a function of its key alone: neither its batch, nor the process that
reads it, nor torch's global generator have a part in them, and that generator is left as it was.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torchvision.transforms import InterpolationMode, v2

from episodes.faults import InputError, unknown_name
from episodes.plan import Integers
from episodes.reader import ImageReader

Transform = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Augmentation:
    """A random change to one image.

    A transform may draw from torch's CPU generator, as those of torchvision do, and from no
    other source: nothing else is seeded for it.

    Attributes:
        name: recorded with positions and weights.
        transform: of one image: uint8 [3, height, width] as stored, to uint8 [3, size, size],
            where `full_size`; else float32 [3, size, size] in [−1, 1], by the image rule of the
            reader, to the same.
        full_size: whether it works on the image as stored.
    """

    name: str
    transform: Transform
    full_size: bool

    def read(
        self, images: ImageReader, class_ids: Integers, numbers: Integers, seeds: Sequence[int]
    ) -> Tensor:
        """Augmented images in the order asked for.

        Args:
            images: where they are read.
            class_ids, numbers: [n] as for `ImageReader.read`.
            seeds: [n] seed of each image's draws; torch's generator takes the lowest 32 bits.

        Returns:
            float32 [n, 3, size, size]; in [−1, 1] where the transform keeps that range.

        Raises:
            InputError: an image cannot be read, or the transform gives another size.
        """
        if not self.full_size:
            squares = images.read(class_ids, numbers)
            pairs = zip(squares, seeds, strict=True)
            return torch.stack([self._drawn(image, seed, images.size) for image, seed in pairs])
        pixels = torch.empty(len(numbers), 3, images.size, images.size)
        for place, stored in images.decode(class_ids, numbers):
            image = torch.tensor(stored).permute(2, 0, 1)
            pixels[place] = self._drawn(image, seeds[place], images.size)
        return pixels.div_(127.5).sub_(1.0)

    def _drawn(self, image: Tensor, seed: int, size: int) -> Tensor:
        before = torch.get_rng_state()
        try:
            # Not torch.manual_seed, which seeds the GPUs as well.
            torch.default_generator.manual_seed(seed % 2**32)
            changed = self.transform(image)
        finally:
            torch.set_rng_state(before)
        if changed.shape != (3, size, size):
            raise InputError(
                f"gives images of {list(changed.shape)}, not {[3, size, size]}.",
                f"augmentation '{self.name}'",
                "Let it crop or resize to the image size.",
            )
        return changed


# ---- recipes ---------------------------------------------------------------------------------

SUR_PAD = 8


def _crop(size: int, *others: v2.Transform) -> v2.Transform:
    """A random part of the stored image, stretched to the image size; mirrored by half."""
    crop = v2.RandomResizedCrop(size, antialias=True)
    return v2.Compose([crop, v2.RandomHorizontalFlip(), *others])


def _jitter(size: int) -> v2.Transform:
    return _crop(size, v2.ColorJitter(brightness=0.4, contrast=0.4, saturation=0.4))


def _randaugment(size: int) -> v2.Transform:
    smooth = InterpolationMode.BILINEAR
    return _crop(size, v2.RandAugment(num_ops=2, magnitude=9, interpolation=smooth))


def _augmix(size: int) -> v2.Transform:
    return _crop(size, v2.AugMix(interpolation=InterpolationMode.BILINEAR))


def _sur(size: int) -> v2.Transform:
    if size <= SUR_PAD:
        raise InputError(
            f"images of {size} pixels are too small to reflect {SUR_PAD} at each edge.",
            "augmentation 'sur'",
            f"Take an image size above {SUR_PAD}.",
        )
    crop = v2.RandomCrop(size, padding=SUR_PAD, padding_mode="reflect")
    return v2.Compose([_sur_colours, crop])


def _sur_colours(image: Tensor) -> Tensor:
    """Saturation and contrast times 0.8 to 1.2, hue turned by up to 0.03 of the circle.

    As TensorFlow defines the three, on values that are neither rounded nor cut off.
    """
    image = scale_saturation((image + 1) / 2, _uniform(0.8, 1.2))
    image = scale_contrast(image, _uniform(0.8, 1.2))
    return turn_hue(image, _uniform(-0.03, 0.03)) * 2 - 1


def _uniform(low: float, high: float) -> float:
    return torch.empty(()).uniform_(low, high).item()


def scale_saturation(image: Tensor, factor: float) -> Tensor:
    """Multiply the saturation of the HSV model, which ends at 1; [3, S, S] from 0 (black) on."""
    highest = image.amax(0)
    spread = highest - image.amin(0)
    # the saturation is spread / highest: the largest factor is that which makes it 1
    largest = highest / spread.clamp_min(1e-9)
    return highest - (highest - image) * largest.clamp_max(factor)


def scale_contrast(image: Tensor, factor: float) -> Tensor:
    """Multiply the distance from the mean of each channel; [3, S, S]."""
    mean = image.mean((1, 2), keepdim=True)
    return mean + (image - mean) * factor


def turn_hue(image: Tensor, turn: float) -> Tensor:
    """Turn the hue of the HSV model by a part of the circle; [3, S, S] of any range."""
    highest, nearest = image.max(0)
    spread = highest - image.amin(0)
    # In sixths of the circle: red at 0, green at 2, blue at 4. A pixel lies near its highest
    # channel, off it by as much as the next channel leads the one before.
    leads = image.roll(-1, 0) - image.roll(-2, 0)
    lead = leads.gather(0, nearest[None])[0] / spread.clamp_min(1e-9)
    hue = 2 * nearest + lead + 6 * turn
    # Around the circle each channel stays highest for two sixths, falls, stays lowest, rises.
    position = (hue + torch.tensor([5.0, 3.0, 1.0])[:, None, None]) % 6
    return highest - spread * torch.minimum(position, 4 - position).clamp(0, 1)


@dataclass(frozen=True)
class AugmentationRecipe:
    """How an augmentation is made for an image size.

    Attributes:
        build: of the image size.
        full_size: as for `Augmentation`.
    """

    build: Callable[[int], Transform]
    full_size: bool


AUGMENTATIONS = {
    "flip": AugmentationRecipe(lambda size: v2.RandomHorizontalFlip(), full_size=False),
    "crop": AugmentationRecipe(_crop, full_size=True),
    "jitter": AugmentationRecipe(_jitter, full_size=True),
    "randaugment": AugmentationRecipe(_randaugment, full_size=True),
    "augmix": AugmentationRecipe(_augmix, full_size=True),
    "sur": AugmentationRecipe(_sur, full_size=False),
}
"""Augmentations by name.

`flip` mirrors half of the images. `crop` is torchvision's random resized crop of the stored image
(8 to 100 % of its area, low-passed where it is reduced) and a flip; `jitter` adds brightness,
contrast and saturation times 0.6 to 1.4, `randaugment` two random operations of strength 9 of 30,
`augmix` a blend of the image with three chains of operations of strength 3 of 10.
`sur` is that of SUR, URL and FLUTE (facts on heads, section 4): colours, then a crop of the image
padded with 8 reflected pixels, no flip. Their change of brightness, at most 1/2000 of the range,
is left out.
"""


def find_augmentation(name: str, size: int) -> Augmentation:
    """The augmentation of this name for images of this size.

    Raises:
        InputError: there is none, or the images are too small for it.
    """
    if name not in AUGMENTATIONS:
        raise unknown_name("augmentation", name, AUGMENTATIONS)
    recipe = AUGMENTATIONS[name]
    return Augmentation(name, recipe.build(size), recipe.full_size)
