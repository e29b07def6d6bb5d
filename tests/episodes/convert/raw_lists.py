"""Raw data of sources whose images come in lists, arrays or nested archives."""

import gzip
import io
import json
import struct

import numpy as np
from PIL import Image

from tests.episodes.convert.raw_data import (
    SPLITS,
    Made,
    draw_splits,
    encoded,
    odd_file,
    pack,
    record_of,
)


def make_fungi():
    made = Made(
        archives={
            "fungi_train_val.tgz": "fungi/images",
            "train_val_annotations.tgz": "fungi/lists/",
        }
    )
    categories = [{"id": k, "name": f"Fungus sp. {k % 1000}"} for k in range(1394)]
    names = [f"{one['id']:04d}.{one['name']}" for one in categories]
    rng = np.random.default_rng(2)
    pool = [odd_file(k) for k in range(14)]
    made.records = {name: [] for name in names}
    number = 0
    for part, copies in (("train", 2), ("val", 1)):
        raw = {"categories": categories[:: 1 if copies == 2 else -1], "images": []}
        raw["annotations"] = []
        for category in rng.permutation(np.repeat(np.arange(1394), copies)).tolist():
            number += 1
            name = f"images/{category}_Fungus sp./f {number}.JPG"
            content = made.add(f"fungi/{name}", pool[number % len(pool)])
            made.records[names[category]].append(record_of(content))
            raw["images"].append({"id": number, "file_name": name, "width": 14})
            raw["annotations"].insert(0, {"image_id": number, "category_id": category})
        made.add(f"fungi/{part}.json", json.dumps(raw).encode())
    made.splits = draw_splits(names, 994, 200, 200)
    return made


def make_quickdraw():
    made = Made()
    names = ["zigzag", "The Eiffel Tower", *(f"thing {k}" for k in range(343))]
    for place, name in enumerate(names):
        rng = np.random.default_rng(place)
        grey = rng.integers(0, 256, (3, 28, 28), dtype=np.uint8)
        array = grey > 128 if place % 2 else grey
        stream = io.BytesIO()
        np.save(stream, array.reshape(3, 784))
        made.add(f"quickdraw/{name}.npy", stream.getvalue())
        made.records[name] = [
            encoded(one.astype(np.uint8) * 255 if place % 2 else one) for one in array
        ]
    made.splits = draw_splits(sorted(names), 241, 52, 52)
    return made


def make_mscoco():
    made = Made(
        archives={
            "train2017.zip": "mscoco/train2017",
            "annotations_trainval2017.zip": "mscoco/annotations",
        }
    )
    numbers = [k for k in range(1, 91) if k % 9]  # as in the true data, with gaps
    categories = [{"id": k, "name": f"thing {97 - k}"} for k in numbers]
    names = [one["name"] for one in categories]
    images = {}
    for image in range(40):
        content = odd_file(image, (60, 40))
        made.add(f"mscoco/train2017/{image * 7:012d}.jpg", content)
        images[image * 7] = np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))
    rng = np.random.default_rng(3)
    annotations, made.records = [], {name: [] for name in names}
    for number in range(600):
        image, category = int(rng.integers(40)) * 7, number % 80
        x, y = rng.uniform(0, 50), rng.uniform(0, 30)
        w, h = rng.uniform(1, 60 - x), rng.uniform(1, 40 - y)
        if number % 50 == 7:
            x, y, w, h = 70.0, 5.0, 3.0, 3.0  # outside of the image: skipped
        elif number % 50 == 8:
            w = h = 0.0  # enlarged to one pixel
        box = [round(float(value), 2) for value in (x, y, w, h)]
        annotations.append({"image_id": image, "category_id": numbers[category], "bbox": box})
        annotations[-1] |= {"iscrowd": int(number % 60 == 0), "id": 5000 - number}
        annotations[-1]["segmentation"] = [[1.5, 2.5, 3.0]]
        if number % 50 != 7:
            left, upper, right, lower = enlarge(*box, 60, 40)
            pixels = images[image][upper:lower, left:right]
            made.records[names[category]].append(encoded(pixels))
    raw = {"info": {"year": 2017}, "images": [], "annotations": annotations}
    raw["categories"] = categories
    made.add("mscoco/annotations/instances_train2017.json", json.dumps(raw).encode())
    made.splits = draw_splits(names, 0, 40, 40)
    return made


def enlarge(x, y, w, h, width, height):
    """1.2 times as large, in pixels: the rule in the words of the fact sheet."""
    x, y, w, h = x - 0.5 * w * (1.2 - 1), y - 0.5 * h * (1.2 - 1), 1.2 * w, 1.2 * h
    low = np.maximum(np.rint([x - 0.5, y - 0.5]), 0)
    high = np.minimum(np.rint([x + w - 0.5, y + h - 0.5]) + 1, [width, height])
    return [*low.astype(int).tolist(), *high.astype(int).tolist()]


def make_wordnet(leaves=1000, valid=158, test=130):
    """Words and links: 158 classes below carnivore, 130 below device, and chains that vanish."""
    names = [f"n{1440764 if k == 0 else 10000000 + k * 7919 % 3000000:08d}" for k in range(leaves)]
    words = {"n00001740": "entity", "n02075296": "carnivore", "n03183080": "device, thing"}
    words |= {name: f"class {k}" for k, name in enumerate(names)}
    words |= {f"n0009000{k}": "chain" for k in range(3)} | {"n00080000": "animal"}
    words |= {"n00070000": "outside of all classes"}
    links = [("n00001740", "n00080000"), ("n00080000", "n02075296"), ("n00080000", names[0])]
    links += [("n00001740", "n00090000"), ("n00090000", "n00090001"), ("n00090001", "n03183080")]
    links += [("n00001740", "n00070000"), ("n00070000", "n00090002")]
    below = {"n02075296": names[-valid:], "n03183080": names[-valid - test : -valid]}
    below["n00001740"] = names[1 : -valid - test]
    links += [(parent, child) for parent, some in below.items() for child in some]
    return words, links, below


def make_ilsvrc_2012():
    made = Made()
    words, links, below = make_wordnet()
    made.add("ilsvrc_2012/words.txt", "".join(f"{k}\t{v}\n" for k, v in words.items()).encode())
    text = "".join(f"{parent} {child}\n" for parent, child in links)
    made.add("ilsvrc_2012/wordnet.is_a.txt", text.encode())
    valid, test = below["n02075296"], below["n03183080"]
    train = [*below["n00001740"], "n01440764"]
    pool = [odd_file(k) for k in range(14)]
    for place, name in enumerate([*train, *valid, *test]):
        files = {f"{name}_{k}.JPEG": pool[(place + k) % 14] for k in (2, 10)}
        for file, content in files.items():
            made.add(f"ilsvrc_2012/train/{name}/{file}", content)
        made.records[name] = [record_of(files[file]) for file in sorted(files)]
    made.splits = dict(zip(SPLITS, (sorted(train), sorted(valid), sorted(test)), strict=True))
    return made


def pack_imagenet(made, folder):
    """A tar of a tar per synset, as it is downloaded."""
    inside = "ilsvrc_2012/train/"
    tars = {
        f"{name}.tar": pack(
            ".tar",
            {
                path.rpartition("/")[2]: content
                for path, content in made.files.items()
                if path.startswith(f"{inside}{name}/")
            },
        )
        for name in made.records
    }
    (folder / "ILSVRC2012_img_train.tar").write_bytes(pack(".tar", tars))


def make_mnist():
    made = Made()
    rng = np.random.default_rng(4)
    images = rng.integers(0, 256, (130, 28, 28), dtype=np.uint8)
    labels = rng.permutation(np.arange(130) % 10).astype(np.uint8)
    for name, array in (("images-idx3", images), ("labels-idx1", labels)):
        header = struct.pack(">I", 0x800 + array.ndim) + struct.pack(
            f">{array.ndim}I", *array.shape
        )
        content = gzip.compress(header + array.tobytes())
        made.add(f"mnist/t10k-{name}-ubyte.gz", content)
    made.splits = {"train": [], "valid": [], "test": [f"class_{k}" for k in range(10)]}
    for digit in range(10):
        some = images[labels == digit]
        order = sorted(range(len(some)), key=str)  # 0, 1, 10, 11, 12, 2, …
        made.records[f"class_{digit}"] = [encoded(enlarged(some[k])) for k in order]
    return made


def enlarged(pixels):
    image = Image.fromarray(pixels).convert("RGB")
    return np.asarray(image.resize((84, 84), resample=Image.Resampling.LANCZOS))


def python2_pickle(entries):
    """A dictionary of texts, lists and one array of bytes as Python 2 pickled it."""

    def text(value):
        raw = value if isinstance(value, bytes) else value.encode()
        if len(raw) < 256:
            return b"U" + bytes([len(raw)]) + raw
        return b"T" + struct.pack("<i", len(raw)) + raw

    def item(value):
        if isinstance(value, np.ndarray):
            shape = b"".join(b"M" + struct.pack("<H", size) for size in value.shape)
            made = (
                b"cnumpy.core.multiarray\n_reconstruct\n" + b"(cnumpy\nndarray\nK\x00\x85U\x01btR"
            )
            kind = b"cnumpy\ndtype\n" + b"(U\x02u1K\x00K\x01tR"
            return (
                made + b"(K\x01(" + shape + b"t" + kind + b"I00\n" + text(value.tobytes()) + b"tb"
            )
        if isinstance(value, list):
            return b"](" + b"".join(map(item, value)) + b"e"
        return b"K" + bytes([value]) if isinstance(value, int) else text(value)

    pairs = b"".join(text(key) + item(value) for key, value in entries.items())
    return b"\x80\x02}(" + pairs + b"u."


def make_cifar(folder, batch, meta, key, classes):
    rng = np.random.default_rng(classes)
    images = rng.integers(0, 256, (3 * classes, 32, 32, 3), dtype=np.uint8)
    labels = rng.permutation(np.arange(3 * classes) % classes).tolist()
    files = [f"photo_s_{k:06d}.png" for k in rng.permutation(3 * classes)]
    names = [f"thing_{(k * 7) % classes:03d}" for k in range(classes)]
    made = Made(archives={f"{folder[:9]}python.tar.gz".replace("00p", "00-p"): f"raw/{folder}"})
    data = images.transpose(0, 3, 1, 2).reshape(len(images), -1)
    entries = {"batch_label": "testing", key: labels, "data": data, "filenames": files}
    made.add(f"raw/{folder}/{batch}", python2_pickle(entries))
    key_of_names = key.replace("labels", "label_names")
    made.add(f"raw/{folder}/{meta}", python2_pickle({key_of_names: names, "num_vis": 3}))
    made.splits = {"train": [], "valid": [], "test": sorted(names)}
    for label, name in enumerate(names):
        some = sorted((files[k], k) for k in range(len(files)) if labels[k] == label)
        made.records[name] = [encoded(enlarged(images[k])) for _, k in some]
    return made


def make_cifar10():
    made = make_cifar("cifar-10-batches-py", "test_batch", "batches.meta", "labels", 10)
    made.archives = {"cifar-10-python.tar.gz": "raw/cifar-10-batches-py"}
    return made


def make_cifar100():
    made = make_cifar("cifar-100-python", "test", "meta", "fine_labels", 100)
    made.archives = {"cifar-100-python.tar.gz": "raw/cifar-100-python"}
    return made
