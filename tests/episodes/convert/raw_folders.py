"""Raw data of sources whose classes are folders, or told by a small file beside the images."""

import io

import numpy as np
import scipy.io

from tests.episodes.convert.raw_data import (
    SPLITS,
    Made,
    draw_image,
    draw_splits,
    encoded,
    odd_file,
    record_of,
)


def make_dtd():
    made = Made(archives={"dtd-r1.0.1.tar.gz": "dtd/dtd"})
    names = ["banded", "dotted", "waffled", *(f"texture {k:02d}.x" for k in range(44))]
    for place, name in enumerate(names):
        files = {f"{name}_{k:04d}.jpg": odd_file(7 * place + k) for k in (10, 9, 1)}
        for file, content in files.items():
            made.add(f"dtd/dtd/images/{name}/{file}", content)
        made.records[name] = [record_of(files[file]) for file in sorted(files)]
    made.add("dtd/dtd/images/waffled/.directory", b"[Dolphin]")
    made.add("dtd/dtd/labels/train1.txt", b"banded/banded_0001.jpg")
    made.splits = draw_splits(sorted(names), 33, 7, 7)
    return made


def make_cu_birds():
    made = Made(archives={"CUB_200_2011.tgz": "cu_birds/CUB_200_2011"})
    inside, first = "cu_birds/CUB_200_2011", "001.Black_footed_Albatross"
    # not in the order of their names
    names = [first, *(f"{k:03d}.Bird_{(k * 7) % 200}" for k in range(200, 1, -1))]
    lines = [f"{k} {name}" for k, name in enumerate(names, start=1)]
    made.add(f"{inside}/classes.txt", ("\n".join(lines) + "\n").encode())
    for place, name in enumerate(names):
        made.records[name] = [
            record_of(made.add(f"{inside}/images/{name}/B_{k}.jpg", odd_file(k * place)))
            for k in (1, 2)
        ]
    made.splits = draw_splits(names, 140, 30, 30)
    return made


ALPHABETS = (
    "Blackfoot_(Canadian_Aboriginal_Syllabics)",
    "Ojibwe_(Canadian_Aboriginal_Syllabics)",
    "Inuktitut_(Canadian_Aboriginal_Syllabics)",
    "Tagalog",
    "Alphabet_of_the_Magi",
)


def make_omniglot():
    made = Made(
        archives={
            "images_background.zip": "omniglot/images_background",
            "images_evaluation.zip": "omniglot/images_evaluation",
        }
    )
    others = [f"Alphabet {k:02d}" for k in range(25)]
    tested = ["Tengwar", *(f"Evaluated_{k:02d}" for k in range(19))]
    seed = 0
    for folder, alphabets in (("background", [*others, *ALPHABETS]), ("evaluation", tested)):
        for alphabet in alphabets:
            for character in range(1, 2 + len(alphabet) % 3):
                inside = f"omniglot/images_{folder}/{alphabet}/character{character:02d}"
                name = f"{alphabet}-character{character:02d}"
                made.records[name] = []
                for k in range(2):
                    seed += 1
                    content = encoded(draw_image(seed, (21, 21)), "PNG", mode="1")
                    made.add(f"{inside}/{seed:04d}_{k:02d}.png", content)
                    made.records[name].append(record_of(content, invert=True))
    made.splits = {
        split: [
            name
            for alphabet in alphabets
            for name in sorted(made.records)
            if name.rpartition("-")[0] == alphabet
        ]
        for split, alphabets in zip(
            SPLITS, (sorted(others), ALPHABETS, sorted(tested)), strict=True
        )
    }
    return made


def make_aircraft():
    made = Made(archives={"fgvc-aircraft-2013b.tar.gz": "aircraft/fgvc-aircraft-2013b"})
    data = "aircraft/fgvc-aircraft-2013b/data"
    names = [f"Falcon {k} / x.{k % 3}" if k % 2 else f"A{k}" for k in range(100)]
    lists, boxes = {"trainval": [], "test": []}, []
    numbers = {name: [] for name in names}
    for k in np.random.default_rng(0).permutation(300).tolist():
        number = f"{3 * k:07d}"
        content = made.add(f"{data}/images/{number}.jpg", odd_file(k, (30, 20)))
        box = (1 + k % 5, 2, 20 + k % 10, 12 + k % 8)
        boxes.append(f"{number} {' '.join(map(str, box))}")
        lists["test" if k % 3 else "trainval"].append(f"{number} {names[k % 100]}")
        numbers[names[k % 100]].append((number, record_of(content, box)))
    made.records = {name: [one for _, one in sorted(some)] for name, some in numbers.items()}
    made.add(f"{data}/variants.txt", ("\n".join(names) + "\n").encode())
    made.add(f"{data}/images_box.txt", ("\n".join(boxes) + "\n").encode())
    for part, lines in lists.items():
        made.add(f"{data}/images_variant_{part}.txt", ("\n".join(lines) + "\n").encode())
    made.splits = draw_splits(sorted(names), 70, 15, 15)
    return made


def make_traffic_sign():
    from episodes.convert.traffic_sign import SIGNS

    made = Made(archives={"GTSRB_Final_Training_Images.zip": "traffic_sign/GTSRB"})
    names = [f"{k:02d}.{sign}" for k, sign in enumerate(SIGNS)]
    for sign, name in enumerate(names):
        folder = f"traffic_sign/GTSRB/Final_Training/Images/{sign:05d}"
        frames = []
        for k in range(10):
            pixels = draw_image(50 * sign + k, (9, 8))
            made.add(f"{folder}/{k // 3:05d}_{k:05d}.ppm", encoded(pixels, "PPM"))
            frames.append(encoded(pixels))
        made.add(f"{folder}/GT-{sign:05d}.csv", b"Filename;Width;Height")
        # where RandomState(23) puts ten things (facts of the official format, section 2.3)
        made.records[name] = [frames[k] for k in (5, 8, 2, 9, 4, 7, 1, 0, 6, 3)]
    made.add("traffic_sign/GTSRB/Readme.txt", b"read me")
    made.splits = {"train": [], "valid": [], "test": names}
    return made


def make_vgg_flower():
    from episodes.convert.vgg_flower import FLOWERS

    made = Made(archives={"102flowers.tgz": "vgg_flower/jpg"})
    names = [f"{k:03d}.{flower}" for k, flower in enumerate(FLOWERS, start=1)]
    labels = np.random.default_rng(1).permutation(np.tile(np.arange(1, 103), 2))
    made.records = {name: [] for name in names}
    for image, label in enumerate(labels.tolist(), start=1):
        content = made.add(f"vgg_flower/jpg/image_{image:05d}.jpg", odd_file(image))
        made.records[names[label - 1]].append(record_of(content))
    stream = io.BytesIO()
    scipy.io.savemat(stream, {"labels": labels.astype(np.uint8)[None]})
    made.add("vgg_flower/imagelabels.mat", stream.getvalue())
    made.splits = draw_splits(names, 71, 15, 16)
    return made
