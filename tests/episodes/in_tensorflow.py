"""What needs TensorFlow: run by `test_tf_data.py`, in a process of its own.

The order of the tests matters once: the last one imports PyTorch.
"""

import sys
from functools import partial

import numpy as np
import pytest

from episodes import EpisodeReader, InputError, PlannedReader, tf_dataset
from episodes.images import decode, load_image
from episodes.import_order import import_tensorflow
from episodes.plan_file import draw_plans, write_plans
from episodes.protocol import SOURCES
from episodes.records import Records
from episodes.spec import load_spec
from tests.episodes.conftest import spec_in

tf = import_tensorflow()
SIZE = 32
LABELS = ("support_labels", "query_labels", "support_class_ids", "query_class_ids")


@pytest.fixture
def reader(miniature):
    return EpisodeReader(miniature, "fungi", "test", seed=3, size=SIZE)


def arrays(dataset):
    return list(dataset.as_numpy_iterator())


def assert_same(one, other):
    assert one.keys() == other.keys()
    for name in one:
        assert one[name].dtype == other[name].dtype and np.array_equal(one[name], other[name]), name


# ---- the data set ----------------------------------------------------------------------------


def test_types_and_shapes_are_declared(reader):
    declared = tf_dataset(reader).element_spec
    assert sorted(declared) == sorted(["support_images", "query_images", *LABELS])
    for part in ("support", "query"):
        assert declared[f"{part}_images"] == tf.TensorSpec([None, SIZE, SIZE, 3], tf.float32)
        assert declared[f"{part}_labels"] == tf.TensorSpec([None], tf.int32)
        assert declared[f"{part}_class_ids"] == tf.TensorSpec([None], tf.int32)


def test_elements_are_the_episodes_of_their_numbers(reader):
    episodes = arrays(tf_dataset(reader, 5, 9))
    assert len(episodes) == 4
    sizes = set()
    for index, episode in enumerate(episodes, start=5):
        plan = reader.plan(index)
        assert episode["support_labels"].tolist() == plan.support_labels.tolist()
        assert episode["query_labels"].tolist() == plan.query_labels.tolist()
        assert episode["support_class_ids"].tolist() == plan.support_class_ids.tolist()
        assert episode["query_class_ids"].tolist() == plan.query_class_ids.tolist()
        encoded = Records(reader.images.spec, reader.images.split)
        for part, class_ids, numbers in (
            ("support", plan.support_class_ids, plan.support_images),
            ("query", plan.query_class_ids, plan.query_images),
        ):
            images = episode[f"{part}_images"]
            assert images.shape == (len(numbers), SIZE, SIZE, 3)
            for image, class_id, number in zip(images, class_ids, numbers, strict=True):
                ((content, _),) = encoded.read(int(class_id), np.asarray([number]))
                assert np.array_equal(image, load_image(content, SIZE).transpose(1, 2, 0))
            sizes.add((part, len(numbers)))
    assert len(sizes) > 2  # episodes are of different sizes


def test_the_same_each_time_and_whatever_is_read_ahead(reader):
    plain = tf_dataset(reader, 2, 6)
    first, again, ahead = arrays(plain), arrays(plain), arrays(plain.prefetch(3))
    elsewhere = arrays(tf_dataset(reader).skip(2).take(4))
    for four in zip(first, again, ahead, elsewhere, strict=True):
        for other in four[1:]:
            assert_same(four[0], other)
    assert not np.array_equal(first[0]["support_class_ids"], first[1]["support_class_ids"])


def test_a_plan_file_ends(reader, miniature, tmp_path):
    path = tmp_path / "plans.parquet"
    write_plans(draw_plans(reader.sampler, 3, 4), path)
    planned = PlannedReader(miniature, path, size=SIZE)
    episodes = arrays(tf_dataset(planned))
    assert len(episodes) == 4 and len(arrays(tf_dataset(planned, 3, 9))) == 1
    for one, other in zip(episodes, arrays(tf_dataset(reader, 0, 4)), strict=True):
        assert_same(one, other)


def test_a_model_trains_on_it(reader):
    """A prototypical step in TensorFlow: ragged episodes pass through `tf.function`."""
    weights = tf.Variable(tf.random.stateless_normal([SIZE * SIZE * 3, 8], [1, 2]) * 0.01)

    @tf.function(reduce_retracing=True)
    def step(episode):
        with tf.GradientTape() as tape:
            support, query = (
                tf.reshape(episode[f"{part}_images"], [-1, SIZE * SIZE * 3]) @ weights
                for part in ("support", "query")
            )
            means = tf.math.segment_mean(support, episode["support_labels"])
            scores = -tf.reduce_sum((query[:, None] - means[None]) ** 2, axis=2)
            loss = tf.reduce_mean(
                tf.nn.sparse_softmax_cross_entropy_with_logits(episode["query_labels"], scores)
            )
        weights.assign_sub(0.001 * tape.gradient(loss, weights))
        return loss

    losses = [float(step(episode)) for episode in tf_dataset(reader, 0, 3).repeat(4).prefetch(1)]
    assert len(losses) == 12 and sum(losses[-3:]) < sum(losses[:3])


def test_ranges_that_are_none(reader):
    for start, stop in ((-1, None), (3, 2)):
        with pytest.raises(InputError, match="are no range"):
            tf_dataset(reader, start, stop)


# ---- records in both directions --------------------------------------------------------------


def tensorflow_example(image, label):
    features = {
        "image": tf.train.Feature(bytes_list=tf.train.BytesList(value=[image])),
        "label": tf.train.Feature(int64_list=tf.train.Int64List(value=[label])),
    }
    return tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()


FEATURES = {
    "image": tf.io.FixedLenFeature([], tf.string),
    "label": tf.io.FixedLenFeature([], tf.int64),
}


@pytest.mark.parametrize("source", ["omniglot", "aircraft", "ilsvrc_2012"])
def test_tensorflow_reads_our_records(miniature, source):
    spec = load_spec(miniature / source)
    for class_id in (0, len(spec.class_names) - 1):
        count = spec.images_per_class[class_id]
        split = next(s for s, ids in spec.split_classes.items() if class_id in ids)
        ours = Records(spec, split).read(class_id, np.arange(count))
        dataset = tf.data.TFRecordDataset(str(spec.class_file(class_id)))
        theirs = [
            (one["image"].numpy(), int(one["label"]))
            for one in dataset.map(partial(tf.io.parse_single_example, features=FEATURES))
        ]
        assert len(theirs) == count and theirs == [tuple(one) for one in ours]


def drawn_jpegs(count, seed):
    """Images of many shapes, qualities and kinds, encoded by TensorFlow."""
    rng = np.random.RandomState(seed)
    for number in range(count):
        height, width = rng.randint(1, 400, size=2)
        coarse = rng.randint(0, 256, (1, rng.randint(1, 9), rng.randint(1, 9), 3))
        smooth = tf.image.resize(coarse, [height, width], "bicubic")[0]
        noise = rng.normal(0, rng.choice([0, 3, 30]), smooth.shape)
        pixels = tf.cast(tf.clip_by_value(smooth + noise.astype(np.float32), 0, 255), tf.uint8)
        if number % 5 == 4:
            pixels = pixels[..., :1]
        yield tf.io.encode_jpeg(
            pixels,
            quality=int(rng.choice([10, 50, 75, 95, 100])),
            chroma_downsampling=bool(rng.randint(2)),
            progressive=bool(rng.randint(2)),
        ).numpy()


def five_classes(folder, images):
    return spec_in(
        folder,
        __class__="DatasetSpecification",
        name=folder.name,
        classes_per_split={"TRAIN": 5, "VALID": 0, "TEST": 0},
        images_per_class={str(i): images for i in range(5)},
        class_names={str(i): f"c{i}" for i in range(5)},
        file_pattern="{}.tfrecords",
    )


def test_we_read_records_that_tensorflow_wrote(tmp_path):
    spec = five_classes(tmp_path / "written", images=6)
    written = []
    for class_id in range(5):
        images = list(drawn_jpegs(6, class_id))
        with tf.io.TFRecordWriter(str(spec.class_file(class_id))) as writer:
            for image in images:
                writer.write(tensorflow_example(image, class_id))
        written.append(images)
    records = Records(spec, "train")
    for class_id, images in enumerate(written):
        found = records.read(class_id, np.arange(6))
        assert [tuple(one) for one in found] == [(image, class_id) for image in images]
    (episode,) = arrays(tf_dataset(EpisodeReader(tmp_path, "written", "train", size=16), 0, 1))
    assert np.isfinite(episode["support_images"]).all()


# ---- pixels ----------------------------------------------------------------------------------


def tensorflow_pixels(image, size):
    """The benchmark's way: decoded, and as float32 [size, size, 3] in [−1, 1]."""
    decoded = tf.image.decode_jpeg(image, channels=3)
    resized = tf.compat.v1.image.resize_bilinear(decoded[None], [size, size], align_corners=True)
    return decoded.numpy(), (2 * (resized[0] / 255.0 - 0.5)).numpy()


def stored_jpegs(miniature):
    """Three images of every class of every source of the miniature."""
    for source in SOURCES:
        spec = load_spec(miniature / source)
        for split, class_ids in spec.split_classes.items():
            records = Records(spec, split) if class_ids else None
            for class_id in class_ids:
                yield from (image for image, _ in records.read(class_id, np.arange(3)))


@pytest.mark.parametrize("which", ["stored", "drawn"])
def test_pixels_equal_tensorflows(which, miniature, record_property):
    images = stored_jpegs(miniature) if which == "stored" else drawn_jpegs(300, seed=0)
    count, differences = 0, []
    for count, image in enumerate(images, start=1):
        size = (31, 84, 126)[count % 3]
        decoded, pixels = tensorflow_pixels(image, size)
        assert np.array_equal(decode(image), decoded)
        ours = load_image(image, size).transpose(1, 2, 0)
        differences.append(np.abs(ours - pixels))
    largest = max(float(one.max()) for one in differences)
    mean = sum(float(one.mean()) for one in differences) / count
    for name, value in (("images", count), ("largest", largest), ("mean", mean)):
        record_property(name, value)
    assert count >= 300 and largest < 1e-5  # of a range of 2


# ---- bad input, and PyTorch in the same process ----------------------------------------------


def test_a_damaged_image_is_named(tmp_path):
    spec = five_classes(tmp_path / "broken", images=4)
    for class_id in range(5):
        with tf.io.TFRecordWriter(str(spec.class_file(class_id))) as writer:
            for _ in range(4):
                writer.write(tensorflow_example(b"\xff\xd8 no picture", class_id))
    dataset = tf_dataset(EpisodeReader(tmp_path, "broken", "train", size=16))
    with pytest.raises(tf.errors.OpError, match=r"InputError: .*broken.*tfrecords"):
        next(iter(dataset))


def test_pytorch_was_not_needed_and_may_come_behind():
    assert "torch" not in sys.modules
    import torchvision  # ends the process where triton was not loaded in time

    assert torchvision.models.resnet18
