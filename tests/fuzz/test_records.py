"""Mutated record files, Examples and specifications."""

import json
import struct
from itertools import pairwise

import pytest

from episodes.example import decode_example, encode_example
from episodes.protocol import Split, find_protocol
from episodes.sampling import EpisodeSampler
from episodes.spec import SPEC_FILE, load_spec
from episodes.tfrecord import (
    FOOTER,
    masked_crc,
    read_examples,
    scan_offsets,
    walk_payloads,
    write_records,
)
from tests.fuzz.mutation import NUMBERS, mutate_bytes, mutate_value, put, survive


def framed(payload, length=None):
    """A payload in its frame, with checksums that hold even if the length is another."""
    header = struct.pack("<Q", len(payload) if length is None else length)
    parts = [header, FOOTER.pack(masked_crc(header)), payload, FOOTER.pack(masked_crc(payload))]
    return b"".join(parts)


EXAMPLES = [
    encode_example(bytes(range(200)), 3),
    encode_example(b"", 0),
    encode_example(b"x", 1 << 40),
]


def test_record_files(tmp_path):
    path = tmp_path / "0.tfrecords"
    write_records(path, EXAMPLES)
    whole = path.read_bytes()

    def make(draw):
        match draw.randrange(3):
            case 0:
                return mutate_bytes(whole, draw)
            case 1:
                return b"".join(framed(mutate_bytes(one, draw)) for one in EXAMPLES)
            case _:  # lengths that lie under a checksum that holds
                return b"".join(framed(one, draw.choice(NUMBERS)) for one in EXAMPLES)

    def read(content):
        put(path, content)
        for _ in walk_payloads(path):
            pass
        spans = list(pairwise(scan_offsets(path)))
        read_examples(path, spans, range(len(spans)))

    survive("record files", 4000, make, read)


def test_wrong_offsets(tmp_path):
    path = tmp_path / "0.tfrecords"
    write_records(path, EXAMPLES)
    size = path.stat().st_size

    def make(draw):
        return [(draw.randrange(2 * size), draw.randrange(2 * size)) for _ in range(3)]

    survive("offsets", 2000, make, lambda spans: read_examples(path, spans, range(3)))


def test_examples():
    def make(draw):
        return mutate_bytes(draw.choice(EXAMPLES), draw)

    def read(payload):
        image, label = decode_example(payload, "x.tfrecords", 7)
        assert image in payload and (label is None or 0 <= label < 1 << 70)

    survive("Examples", 15000, make, read)


@pytest.fixture(params=["dtd", "omniglot", "ilsvrc_2012"])
def specification(request, miniature):
    return json.loads((miniature / request.param / SPEC_FILE).read_text())


def test_specifications(specification, tmp_path):
    small = json.dumps(specification).encode()
    protocol = find_protocol("md-v1")

    def make(draw):
        if draw.random() < 0.3:
            return mutate_bytes(small, draw)
        return json.dumps(mutate_value(specification, draw)).encode("utf-8", "surrogatepass")

    def read(content):
        put(tmp_path / SPEC_FILE, content)
        spec = load_spec(tmp_path)
        assert len(spec.fingerprint) == 16
        for split in Split:
            if spec.split_classes[split]:
                EpisodeSampler(spec, split, protocol).plan(0, 0)

    survive(f"specification {specification['name']}", 1200, make, read)
