"""The official specifications, from raw data that have the official names and no images."""

import json
import random
from itertools import pairwise

import pytest

from episodes import Split
from episodes.convert import CONVERTERS, open_raw
from episodes.convert.source import Options
from episodes.convert.splits import in_order
from tests.episodes.conftest import official_specs

SPECS = official_specs()
pytestmark = pytest.mark.skipif(SPECS is None, reason="the official specifications are not at hand")
OBJECTS = """person, bicycle, car, motorcycle, airplane, bus, train, truck, boat, traffic light,
fire hydrant, stop sign, parking meter, bench, bird, cat, dog, horse, sheep, cow, elephant, bear,
zebra, giraffe, backpack, umbrella, handbag, tie, suitcase, frisbee, skis, snowboard, sports ball,
kite, baseball bat, baseball glove, skateboard, surfboard, tennis racket, bottle, wine glass, cup,
fork, knife, spoon, bowl, banana, apple, sandwich, orange, broccoli, carrot, hot dog, pizza, donut,
cake, chair, couch, potted plant, bed, dining table, toilet, tv, laptop, mouse, remote, keyboard,
cell phone, microwave, oven, toaster, sink, refrigerator, book, clock, vase, scissors, teddy bear,
hair drier, toothbrush"""
"""In the order of their numbers in MSCOCO."""


def write(path, text=""):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def numbered(names):
    return sorted(names, key=lambda name: int(name.partition(".")[0]))


def make_aircraft(folder, names):
    (folder / "data/images").mkdir(parents=True)
    write(folder / "data/images_box.txt")
    write(folder / "data/variants.txt", "\n".join(reversed(names)))


def make_cu_birds(folder, names):
    (folder / "images/001.Black_footed_Albatross").mkdir(parents=True)
    write(folder / "classes.txt", "".join(f"{int(n[:3])} {n}\n" for n in numbered(names)))


def make_dtd(folder, names):
    for name in names:
        (folder / "images" / name).mkdir(parents=True)


def make_quickdraw(folder, names):
    for name in names:
        write(folder / f"{name}.npy")


def make_fungi(folder, names):
    categories = [{"id": int(name[:4]), "name": name[5:]} for name in names]
    for part in ("train", "val"):
        raw = {"categories": categories, "images": [], "annotations": []}
        write(folder / f"{part}.json", json.dumps(raw))


def make_mscoco(folder, names):
    things = OBJECTS.replace("\n", " ").split(", ")
    assert set(things) == set(names)
    raw = {"categories": [{"id": k, "name": n} for k, n in enumerate(things)], "annotations": []}
    for k in range(80):
        raw["annotations"].append({"image_id": 1, "category_id": k, "bbox": [0, 0, 1, 1]})
    write(folder / "annotations/instances_train2017.json", json.dumps(raw))


def make_omniglot(folder, names):
    spec = json.loads((SPECS / "omniglot_dataset_spec.json").read_text())
    sizes, alphabets = spec["classes_per_superclass"], spec["superclass_names"]
    part = {k: "background" if int(k) < 30 else "evaluation" for k in sizes}
    place = 0
    for k, size in sizes.items():
        for name in names[place : place + size]:
            character = name.removeprefix(alphabets[k] + "-")
            (folder / f"images_{part[k]}" / alphabets[k] / character).mkdir(parents=True)
        place += size


def make_ilsvrc_2012(folder, names):
    """Words and links such that the official graph comes out: chains are put into its links.

    Two nodes of the official graph show one child, which they reach by two ways.
    """
    spec = json.loads((SPECS / "ilsvrc_2012_v2_dataset_spec.json").read_text())
    nodes = spec["split_subgraphs"]["TRAIN"]
    words = {node["wn_id"]: node["words"] for node in nodes}
    links, rng = [], random.Random(0)
    for node in nodes:
        for child in node["children_ids"]:
            twice = len(node["children_ids"]) == 1
            for length in [0, 2] if twice else [rng.randrange(3)]:
                chain = [f"n99{len(words) + k:06d}" for k in range(length)]
                words |= dict.fromkeys(chain, "a node with one child")
                links += pairwise([node["wn_id"], *chain, child])
    rng.shuffle(links)
    write(folder / "words.txt", "".join(f"{node}\t{text}\n" for node, text in words.items()))
    write(folder / "wordnet.is_a.txt", "".join(f"{parent} {child}\n" for parent, child in links))
    for name in names:
        (folder / name).mkdir()


MAKERS = {
    "aircraft": make_aircraft,
    "cu_birds": make_cu_birds,
    "dtd": make_dtd,
    "quickdraw": make_quickdraw,
    "fungi": make_fungi,
    "mscoco": make_mscoco,
    "omniglot": make_omniglot,
    "ilsvrc_2012": make_ilsvrc_2012,
    "ilsvrc_2012_v2": make_ilsvrc_2012,
    "vgg_flower": lambda folder, names: None,  # their names are known without raw data
    "traffic_sign": lambda folder, names: None,
}


def test_all_official_sources_are_tested():
    assert set(MAKERS) == {path.name.removesuffix("_dataset_spec.json") for path in SPECS.iterdir()}
    assert set(MAKERS) <= set(CONVERTERS)


@pytest.mark.parametrize("source", MAKERS)
def test_the_official_specification(source, tmp_path):
    official = json.loads((SPECS / f"{source}_dataset_spec.json").read_text())
    names = [official["class_names"][str(k)] for k in range(len(official["class_names"]))]
    folder = tmp_path / "raw"
    folder.mkdir()
    MAKERS[source](folder, names)
    raw = open_raw(source, folder, tmp_path / "records", Options())
    splits = raw.splits()
    assert in_order(splits) == names
    counts = official["images_per_class"]
    if "split_subgraphs" in official:
        counts = {k: v for split in Split for k, v in counts[split.name].items()}
        counts = {k: counts[name] for k, name in enumerate(names)}
    else:
        counts = {int(k): count for k, count in counts.items()}
    made = json.loads(json.dumps(raw.specification(splits, counts)))
    assert list(made) == list(official)
    assert made | {"path": ""} == official | {"path": ""}
