"""Framing, checksums and the Example parser, against hand-made bytes and damage."""

import struct
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from episodes import example
from episodes.faults import InputError
from episodes.tfrecord import (
    decode_example,
    encode_example,
    masked_crc,
    read_examples,
    scan_offsets,
    write_records,
)


def spans(path):
    offsets = scan_offsets(path)
    return list(pairwise(offsets))


def read_all(path):
    found = spans(path)
    return read_examples(path, found, range(len(found)))


def test_masked_crc_of_a_known_string():
    # CRC-32C("123456789") = 0xE3069283 (RFC 3720), rotated right by 15, plus 0xA282EAD8.
    crc = 0xE3069283
    rotated = (crc >> 15 | crc << 17) & 0xFFFFFFFF
    assert masked_crc(b"123456789") == (rotated + 0xA282EAD8) % 2**32


def test_example_bytes_by_hand():
    image = b"\x0a\x05image\x12\x04\x0a\x02\x0a\x00"  # {image: bytes_list {value: ""}}
    label = b"\x0a\x05label\x12\x05\x1a\x03\x0a\x01\x07"  # {label: int64_list {value: [7]}}
    features = b"\x0a" + bytes([len(image)]) + image + b"\x0a" + bytes([len(label)]) + label
    assert encode_example(b"", 7) == b"\x0a" + bytes([len(features)]) + features


def test_unpacked_label_and_foreign_features(tmp_path):
    unpacked = b"\x0a\x05label\x12\x04\x1a\x02\x08\x07"
    other = b"\x0a\x05other\x12\x07\x12\x05\x0d\x00\x00\x80\x3f"  # a float list
    image = b"\x0a\x05image\x12\x05\x0a\x03\x0a\x01x"
    entries = b"".join(b"\x0a" + bytes([len(e)]) + e for e in (other, unpacked, image))
    payload = b"\x0a" + bytes([len(entries)]) + entries
    assert decode_example(payload, tmp_path, 0) == (b"x", 7)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.binary(max_size=400), st.integers(0, 2**62)), max_size=6))
def test_round_trip(tmp_path_factory, examples):
    path = tmp_path_factory.mktemp("records") / "0.tfrecords"
    assert write_records(path, [encode_example(*example) for example in examples]) == len(examples)
    assert read_all(path) == examples


def test_truncation_at_every_byte(tmp_path):
    whole, cut = tmp_path / "0.tfrecords", tmp_path / "1.tfrecords"
    write_records(whole, [encode_example(b"abc", 1), encode_example(b"defg", 2)])
    content = whole.read_bytes()
    good = {0, spans(whole)[0][1], len(content)}
    for length in range(len(content) + 1):
        cut.write_bytes(content[:length])
        if length in good:
            assert read_all(cut) == read_all(whole)[: len(spans(cut))]
        else:
            with pytest.raises(InputError, match=r"1\.tfrecords: .*(truncated|checksum)"):
                read_all(cut)


def test_every_flipped_bit_is_noticed(tmp_path):
    whole, bad = tmp_path / "0.tfrecords", tmp_path / "1.tfrecords"
    write_records(whole, [encode_example(b"abc", 1)])
    content = bytearray(whole.read_bytes())
    for position in range(len(content)):
        for bit in range(8):
            content[position] ^= 1 << bit
            bad.write_bytes(content)
            with pytest.raises(InputError):
                read_all(bad)
            content[position] ^= 1 << bit


def test_a_forged_length_costs_no_memory(tmp_path):
    path = tmp_path / "0.tfrecords"
    length = struct.pack("<Q", 2**60)
    path.write_bytes(length + struct.pack("<I", masked_crc(length)) + b"x" * 100)
    with pytest.raises(InputError, match="truncated"):
        scan_offsets(path)


def parsed_only(payload, path):
    """What the parser makes of it when the usual layout is not tried first."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(example, "_usual_layout", lambda _: None)
        try:
            return decode_example(payload, path, 0)
        except InputError:
            return None


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_the_usual_layout_is_told_exactly(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp()
    image, label = data.draw(st.binary(max_size=300)), data.draw(st.integers(0, 2**62))
    payload = bytearray(encode_example(image, label))
    assert example._usual_layout(bytes(payload)) == (image, label) == parsed_only(payload, path)
    for _ in range(data.draw(st.integers(1, 3))):
        framing = st.sampled_from([*range(min(30, len(payload))), *range(-16, 0)])
        payload[data.draw(framing)] = data.draw(st.integers(0, 255))
    usual = example._usual_layout(bytes(payload))
    assert usual is None or usual == parsed_only(bytes(payload), path)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200))
def test_any_payload_is_an_example_or_an_input_error(tmp_path_factory, payload):
    try:
        image, label = decode_example(payload, tmp_path_factory.getbasetemp(), 0)
    except InputError:
        return
    assert isinstance(image, bytes) and (label is None or label >= 0)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_damaged_example_never_escapes(tmp_path_factory, data):
    payload = bytearray(encode_example(b"some image", 300))
    for _ in range(data.draw(st.integers(1, 4))):
        payload[data.draw(st.integers(0, len(payload) - 1))] = data.draw(st.integers(0, 255))
    try:
        decode_example(bytes(payload), tmp_path_factory.getbasetemp(), 0)
    except InputError as error:
        assert "not an Example" in str(error)


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "0.tfrecords"
    write_records(path, [b"old"])
    before = path.read_bytes()

    def payloads():
        yield b"new"
        raise OSError("disk")

    with pytest.raises(OSError, match="disk"):
        write_records(path, payloads())
    assert path.read_bytes() == before and [p.name for p in tmp_path.iterdir()] == [path.name]


def test_missing_file(tmp_path):
    with pytest.raises(InputError, match="cannot be read: No such file"):
        read_examples(tmp_path / "9.tfrecords", [(0, 1)], [0])
