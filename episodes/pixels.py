"""Many images at once: encoded images of a source to pixels, on all threads."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from episodes.faults import InputError
from episodes.images import IMAGE_RULES, Pixels, decode
from episodes.plan import Integers
from episodes.source import EncodedImages

LARGEST_TASK = 32
"""Images that one thread takes at a time, at most."""
TASKS_PER_THREAD = 8
"""So that threads finish at about the same time."""
SMALL_IMAGE = 4096
"""Bytes of an encoded image below which reading it, which holds Python's lock, takes long beside
decoding it: such images are all read first, by one thread, and then decoded by all."""


class DecodedImages:
    """Decodes and resizes the images of a source.

    Decoding, resizing and checksums run outside of Python's lock, so threads share the work and
    one copy of everything; no process is started.

    Args:
        encoded: where the encoded images are.
        size: side of the square images, in pixels.
        rule: how bytes become pixels: a name in `IMAGE_RULES`.
    """

    def __init__(self, encoded: EncodedImages, size: int, rule: str) -> None:
        self._encoded, self._size, self._rule = encoded, size, IMAGE_RULES[rule]

    def read(self, class_ids: Integers, images: Integers, threads: int = 1) -> npt.NDArray[Any]:
        """Images in the order asked for.

        Args:
            class_ids: [n] class id of each image.
            images: [n] number of each image in its class.
            threads: that read, decode and resize. The pixels are the same.

        Returns:
            [n, 3, size, size] in the type of the rule.

        Raises:
            InputError: a file is missing or damaged, or an image does not decode.
        """
        self._encoded.expect(class_ids, images)
        pixels = np.empty((len(images), 3, self._size, self._size), dtype=self._rule.dtype)

        def fetch(places: Integers) -> list[tuple[int, bytes]]:
            """The encoded images of one task, each with its place."""
            encoded = self._encoded.read(int(class_ids[places[0]]), images[places])
            return [
                (place, image) for place, (image, _) in zip(places.tolist(), encoded, strict=True)
            ]

        def load(fetched: list[tuple[int, bytes]]) -> None:
            for place, image in fetched:
                try:
                    self._rule.load(image, pixels[place])
                except ValueError as error:
                    raise self._fault(int(class_ids[place]), images[place], error) from error

        tasks = _tasks(class_ids, max(1, threads))
        if threads <= 1 or len(tasks) <= 1:
            for places in tasks:
                load(fetch(places))
            return pixels
        first = fetch(tasks[0])
        if sum(len(image) for _, image in first) < SMALL_IMAGE * len(first):
            fetched = first + [pair for places in tasks[1:] for pair in fetch(places)]
            share = -(-len(fetched) // (2 * threads))
            starts = range(0, len(fetched), share)
            jobs = [partial(load, fetched[start : start + share]) for start in starts]
        else:
            jobs = [partial(load, first)]
            jobs += [partial(lambda places: load(fetch(places)), places) for places in tasks[1:]]
        with ThreadPoolExecutor(min(threads, len(jobs))) as pool:
            try:
                for done in [pool.submit(job) for job in jobs]:
                    done.result()
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
        return pixels

    def decode(self, class_ids: Integers, images: Integers) -> Iterator[tuple[int, Pixels]]:
        """Images as they are stored, one at a time, not resized.

        Args:
            class_ids, images: as for `read`.

        Yields:
            An image's place in the arguments, and uint8 [height, width, 3] RGB; class by class.

        Raises:
            InputError: as for `read`.
        """
        self._encoded.expect(class_ids, images)
        for places in _tasks(class_ids, 1):
            class_id = int(class_ids[places[0]])
            encoded = self._encoded.read(class_id, images[places])
            for place, (image, _) in zip(places.tolist(), encoded, strict=True):
                try:
                    stored = decode(image)
                except ValueError as error:
                    raise self._fault(class_id, images[place], error) from error
                yield place, stored

    def _fault(self, class_id: int, image: np.int64, error: ValueError) -> InputError:
        return InputError(
            f"the image does not decode: {error}.",
            self._encoded.locate(class_id, int(image)),
            "Convert or copy it again.",
        )


def _tasks(class_ids: Integers, threads: int) -> list[Integers]:
    """The places of a batch in portions of one class each."""
    portion = LARGEST_TASK
    if threads > 1:
        portion = min(portion, max(1, len(class_ids) // (threads * TASKS_PER_THREAD)))
    places = np.argsort(class_ids, kind="stable")
    of_class = np.split(places, np.flatnonzero(np.diff(class_ids[places])) + 1)
    return [
        group[start : start + portion]
        for group in of_class
        for start in range(0, len(group), portion)
    ]
