"""Episodes for models in TensorFlow: the list of a reader as a `tf.data.Dataset`.

TensorFlow is an extra and is imported by the call. PyTorch is not imported, except by the image
rule `antialiased`, which computes with it.
"""

import os
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from episodes.faults import InputError
from episodes.import_order import import_tensorflow
from episodes.reader import EpisodeReader, PlannedReader

if TYPE_CHECKING:
    import tensorflow as tf

NO_END = 2**63 - 1


def tf_dataset(reader: EpisodeReader, start: int = 0, stop: int | None = None) -> "tf.data.Dataset":
    """The episodes `start` to `stop` − 1 of a reader, in order.

    An element is a dictionary with the six tensors of the benchmark's own pipeline, under their
    names there (facts, section 4.3): `support_images`, `query_images` float32 [n, size, size, 3]
    in [−1, 1], sorted by label; `support_labels`, `query_labels` int32 [n], 0 to way − 1;
    `support_class_ids`, `query_class_ids` int32 [n], absolute in the source. n differs from
    episode to episode. The same arguments give the same elements, each time it is iterated.

    For several sources take `tf.data.Dataset.sample_from_datasets` with a seed, as the benchmark
    does.

    Args:
        reader: of one source; or of a plan file, whose episodes end.
        start: number of the first episode.
        stop: number behind the last; None goes on to the end of a plan file, or without end.

    Raises:
        InputError: TensorFlow is not installed, or the numbers are no range of episodes. An image
            that cannot be read is found while iterating, where TensorFlow raises an error of its
            own that ends with our message.
    """
    if isinstance(reader, PlannedReader):
        stop = len(reader) if stop is None else min(stop, len(reader))
    if start < 0 or (stop is not None and stop < start):
        raise InputError(
            f"episodes {start} to {stop} are no range.", remedy="Count from 0; stop follows start."
        )
    tf: Any = import_tensorflow()
    size = reader.images.size
    images = tf.TensorSpec([None, size, size, 3], tf.float32)
    numbers = tf.TensorSpec([None], tf.int32)
    signature = {
        f"{part}_{what}": spec
        for part in ("support", "query")
        for what, spec in (("images", images), ("labels", numbers), ("class_ids", numbers))
    }

    def load(index: Any) -> dict[str, Any]:
        types = [spec.dtype for spec in signature.values()]
        tensors = tf.numpy_function(partial(read_arrays, reader), [index], types)
        for tensor, spec in zip(tensors, signature.values(), strict=True):
            tensor.set_shape(spec.shape)
        return dict(zip(signature, tensors, strict=True))

    return tf.data.Dataset.range(start, NO_END if stop is None else stop).map(load)


def read_arrays(reader: EpisodeReader, index: int) -> list[Any]:
    """Images [n, size, size, 3], labels [n] and class ids [n] of the support, then of the query."""
    plan, threads = reader.plan(int(index)), os.cpu_count() or 1
    arrays: list[Any] = []
    for labels, class_ids, images in (
        (plan.support_labels, plan.support_class_ids, plan.support_images),
        (plan.query_labels, plan.query_class_ids, plan.query_images),
    ):
        planes = reader.images.read_array(class_ids, images, threads)
        arrays.append(np.ascontiguousarray(planes.transpose(0, 2, 3, 1)))
        arrays += [labels.astype(np.int32), class_ids.astype(np.int32)]
    return arrays
