"""Ways to damage the class files of a source, and what `check` says of each."""

import json
import shutil
from itertools import pairwise

from episodes.check import check
from episodes.tfrecord import encode_example, read_examples, scan_offsets, write_records


def faults_of(records, sources=("dtd",), deep=False):
    """Each fault as the text that a user reads, with the path below the records."""
    faults = [fault for audit in check(records, sources, deep) for fault in audit.faults]
    assert all(fault.remedy for fault in faults)
    return [str(fault).replace(f"{records}/", "") for fault in faults]


def read_file(path):
    spans = list(pairwise(scan_offsets(path)))
    return [image for image, _ in read_examples(path, spans, range(len(spans)))]


def edit(path, change):
    content = bytearray(path.read_bytes())
    change(content)
    path.write_bytes(content)


def edit_json(path, change):
    raw = json.loads(path.read_text())
    change(raw)
    path.write_text(json.dumps(raw))


def cut_inside(folder):
    edit(folder / "3.tfrecords", lambda content: content.__delitem__(slice(-9, None)))


def cut_between(folder):
    images = read_file(folder / "3.tfrecords")
    write_records(folder / "3.tfrecords", [encode_example(image, 3) for image in images[:-2]])


def repeat(folder):
    path = folder / "3.tfrecords"
    path.write_bytes(path.read_bytes() * 2)


def empty(folder):
    (folder / "3.tfrecords").write_bytes(b"")


def flip_contents(folder):
    offsets = scan_offsets(folder / "3.tfrecords")

    def flip(content):
        for record in (2, 3, 7):
            content[offsets[record] + 60] ^= 4

    edit(folder / "3.tfrecords", flip)


def flip_length(folder):
    offsets = scan_offsets(folder / "3.tfrecords")
    edit(folder / "3.tfrecords", lambda c: c.__setitem__(offsets[5] + 1, c[offsets[5] + 1] ^ 1))


def zero_tail(folder):
    path = folder / "3.tfrecords"
    half = scan_offsets(path)[10]
    edit(path, lambda c: c.__setitem__(slice(half, None), bytes(len(c) - half)))


def relabel(folder):
    images = read_file(folder / "3.tfrecords")
    labels = [4 if k in (0, 1, 9) else 3 for k in range(len(images))]
    write_records(folder / "3.tfrecords", map(encode_example, images, labels))


def foreign_payload(folder):
    images = read_file(folder / "3.tfrecords")
    payloads = [encode_example(image, 3) for image in images]
    write_records(folder / "3.tfrecords", [b"something else", *payloads[1:]])


def no_label(folder):
    images = read_file(folder / "3.tfrecords")
    payloads = [encode_example(image, 3) for image in images]
    payloads[4] = payloads[4].replace(b"\x0a\x05label", b"\x0a\x05libel")
    write_records(folder / "3.tfrecords", payloads)


def undecodable(folder):
    images = read_file(folder / "3.tfrecords")
    images[6], images[8] = images[6][:200], b"text"
    write_records(folder / "3.tfrecords", [encode_example(image, 3) for image in images])


def remove(*class_ids):
    return lambda folder: [(folder / f"{k}.tfrecords").unlink() for k in class_ids]


def surplus(folder):
    for name in (".writing-x1", "007.tfrecords", "26.tfrecords", "3.tfrecords.tmp"):
        shutil.copy(folder / "0.tfrecords", folder / name)


def a_folder_for_a_file(folder):
    (folder / "3.tfrecords").unlink()
    (folder / "3.tfrecords").mkdir()


def a_dead_link(folder):
    (folder / "3.tfrecords").unlink()
    (folder / "3.tfrecords").symlink_to(folder / "gone")


def change_spec(**entries):
    return lambda folder: edit_json(folder / "dataset_spec.json", lambda raw: raw.update(entries))


def count_of(class_id, images):
    def change(raw):
        raw["images_per_class"][str(class_id)] = images

    return lambda folder: edit_json(folder / "dataset_spec.json", change)


DAMAGE = {
    cut_inside: r"^dtd/3\.tfrecords: the file ends inside record 29: it is truncated\.",
    cut_between: r"^dtd/3\.tfrecords: holds 28 records, but dataset_spec\.json says 30\.",
    repeat: r"^dtd/3\.tfrecords: holds 60 records, but dataset_spec\.json says 30\.",
    empty: r"^dtd/3\.tfrecords: holds 0 records, but dataset_spec\.json says 30\.",
    flip_contents: r"^dtd/3\.tfrecords: .* checksum in 3 of 30 images: 2–3, 7\.",
    flip_length: r"^dtd/3\.tfrecords: the length of record 5 fails its checksum",
    zero_tail: r"^dtd/3\.tfrecords: the length of record 10 fails its checksum",
    relabel: r"^dtd/3\.tfrecords: the label is 4, not 3, in 3 of 30 images: 0–1, 9\.",
    foreign_payload: r"^dtd/3\.tfrecords: there is no Example .* in 1 of 30 images: 0\.",
    no_label: r"^dtd/3\.tfrecords: there is no label in 1 of 30 images: 4\.",
    undecodable: r"^dtd/3\.tfrecords: the image does not decode in 2 of 30 images: 6, 8\.",
    remove(3): r"^dtd: class files are missing, 1 of 26: 3\.",
    remove(*range(5, 26), 1): r"^dtd: class files are missing, 22 of 26: 1, 5–25\.",
    surplus: r"^dtd: .* no class: \.writing-x1, 007\.\w+, 26\.tfrecords, 3\.tfrecords\.tmp\.",
    a_folder_for_a_file: r"^dtd/3\.tfrecords: cannot be read: Is a directory",
    a_dead_link: r"^dtd/3\.tfrecords: cannot be read: No such file",
    change_spec(name="fungi"): r"^dtd: holds the source 'fungi', not 'dtd'",
    change_spec(class_names={}): r"^dtd/dataset_spec\.json: ",
    count_of(3, 31): r"^dtd/3\.tfrecords: holds 30 records, but dataset_spec\.json says 31\.",
}
