"""Writes the TFDS layout of a source from its converted records, as its builder lays it out.

Written from the description of the format alone; nothing of the reader is used. Example keys,
framing and `metadata.json` are spelled out here a second time.
"""

import json
import struct
from itertools import pairwise
from pathlib import Path

import google_crc32c

SPLITS = ("train", "valid", "test")


def field(number, content):
    size, out = len(content), bytearray([number << 3 | 2])
    while size > 127:
        out.append(size & 127 | 128)
        size >>= 7
    return bytes(out) + bytes([size]) + content


def example(features):
    entries = b""
    for name, value in features.items():  # tf.train.Feature: bytes_list = 1, int64_list = 3
        if isinstance(value, int):
            digits, rest = bytearray(), value
            while rest > 127:
                digits.append(rest & 127 | 128)
                rest >>= 7
            kind = field(3, field(1, bytes([*digits, rest])))
        else:
            kind = field(1, field(1, value))
        entries += field(1, field(1, name.encode()) + field(2, kind))
    return field(1, entries)


def masked(data):
    crc = google_crc32c.value(data)
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def write_shard(path, payloads):
    with path.open("wb") as file:
        for payload in payloads:
            length = struct.pack("<Q", len(payload))
            file.write(length + masked(length) + payload + masked(payload))


def class_sizes(raw):
    """Images by class id of a flat, two-level or DAG specification, and classes per split."""
    names = [raw["class_names"][str(i)] for i in range(len(raw["class_names"]))]
    if "split_subgraphs" in raw:
        leaves = {
            s: [n for n in raw["split_subgraphs"][s.upper()] if not n["children_ids"]]
            for s in SPLITS
        }
        images = {k: n for s in SPLITS for k, n in raw["images_per_class"][s.upper()].items()}
        return [images[name] for name in names], {s: len(leaves[s]) for s in SPLITS}
    sizes = [raw["images_per_class"][str(i)] for i in range(len(names))]
    if "classes_per_split" in raw:
        return sizes, {s: raw["classes_per_split"][s.upper()] for s in SPLITS}
    per, first, split_sizes = raw["classes_per_superclass"], 0, {}
    for s in SPLITS:
        count = raw["superclasses_per_split"][s.upper()]
        split_sizes[s] = sum(per[str(i)] for i in range(first, first + count))
        first += count
    return sizes, split_sizes


def slices(raw):
    sizes, split_sizes = class_sizes(raw)
    starts = [sum(sizes[:i]) for i in range(len(sizes) + 1)]
    of_class = [[a, b] for a, b in pairwise(starts)]
    of_split, relative, first = {}, {}, 0
    for s in SPLITS:
        last = first + split_sizes[s]
        of_split[s] = [starts[first], starts[last]] if last > first else None
        relative[s] = {str(i): span for i, span in enumerate(of_class[first:last])}
        first = last
    return {str(i): span for i, span in enumerate(of_class)}, of_split, relative


def write_tfds(data_dir, source, specs, images, shards):
    """One source below `data_dir`.

    Args:
        specs: {"v1": raw specification, "v2": …}.
        images: by v1 class id, a list of encoded images.
        shards: how many files.
    """
    folder = Path(data_dir) / "meta_dataset" / source / "1.0.0"
    folder.mkdir(parents=True)
    names = specs["v1"]["class_names"]
    payloads = [
        example(
            {
                "class_name": names[str(label)].encode(),
                "filename": f"{label}_{number}.jpg".encode(),
                "format": b"JPEG",
                "image": image,
                "label": label,
            }
        )
        for label, of_class in enumerate(images)
        for number, image in enumerate(of_class)
    ]
    bounds = [round(i * len(payloads) / shards) for i in range(shards + 1)]
    for i in range(shards):
        name = f"meta_dataset-all_classes.tfrecord-{i:05d}-of-{shards:05d}"
        write_shard(folder / name, payloads[bounds[i] : bounds[i + 1]])
    lengths = [str(b - a) for a, b in pairwise(bounds)]
    info = {
        "name": "meta_dataset",
        "version": "1.0.0",
        "configName": source,
        "fileFormat": "tfrecord",
        "splits": [{"name": "all_classes", "shardLengths": lengths}],
    }
    (folder / "dataset_info.json").write_text(json.dumps(info))
    (folder / "features.json").write_text("{}")
    embedded = {
        version: raw | {"class_names": names} if version == "v2" else raw
        for version, raw in specs.items()
    }
    per_version = {version: slices(raw) for version, raw in embedded.items()}
    metadata = {
        "meta_split_slices": {v: s[1] for v, s in per_version.items()},
        "relative_class_slices": {v: s[2] for v, s in per_version.items()},
        "class_slices": per_version["v1"][0],
        "dataset_specs": embedded,
        "class_names": [names[str(i)] for i in range(len(names))],
        "total_num_examples": len(payloads),
    }
    (folder / "metadata.json").write_text(json.dumps(metadata))
    return folder
