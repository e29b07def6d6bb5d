"""What a record holds: a serialized `tf.train.Example` with an encoded `image` and its `label`.

Source: facts of the official format, section 1.2.
"""

from functools import lru_cache
from pathlib import Path

from episodes.faults import InputError

REMEDY = "Convert or copy this file again."
MOST_KEPT = 4096
"""Payloads up to this many bytes are compared with the usual layout, whose framing is kept."""
LABEL_NAME = b"\n\x05label\x12"
LONGEST_END, LONGEST_FRAMING = 28, 64
"""Bytes that the label of an Example, and all but its image, take at most."""
Span = tuple[int, int]

# Field numbers of tf.train.{Example, Features, Feature, BytesList, Int64List}: every message
# here has its content in field 1, but Feature, which has bytes in 1 and integers in 3.
_WIRE_VARINT, _WIRE_64, _WIRE_BYTES, _WIRE_32 = 0, 1, 2, 5


# ---- writing ---------------------------------------------------------------------------------


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _start(field: int, length: int) -> bytes:
    return bytes([field << 3 | _WIRE_BYTES]) + _varint(length)


def _message(content: bytes, field: int = 1) -> bytes:
    return _start(field, len(content)) + content


@lru_cache
def _label_message(label: int) -> bytes:
    integers = _message(_message(_varint(label)), 3)
    return _message(_message(b"label") + _message(integers, 2))


def encode_example(image: bytes, label: int) -> bytes:
    """A serialized `tf.train.Example` with the features `image` and `label`.

    Args:
        image: encoded image, normally JPEG.
        label: class id in the source, 0 or more.
    """
    size, end = len(image), _label_message(label)
    # Every message starts with its length; from the inside out, so that the image is copied once.
    start = _start(1, size)
    start = _start(1, len(start) + size) + start
    start = _message(b"image") + _start(2, len(start) + size) + start
    start = _start(1, len(start) + size) + start
    return b"".join((_start(1, len(start) + size + len(end)), start, image, end))


# ---- reading ---------------------------------------------------------------------------------


def decode_example(payload: bytes, path: str | Path, record: int) -> tuple[bytes, int | None]:
    """The encoded image and the label (None when absent) of a serialized Example.

    Raises:
        InputError: the payload is not an Example, or holds no image.
    """
    usual = _usual_layout(payload)
    if usual is not None:
        return usual
    image: Span | None = None
    label: int | None = None
    try:
        parts = _all(payload, (0, len(payload)), 1)
        for entry in [entry for features in parts for entry in _all(payload, features, 1)]:
            name, feature = _map_entry(payload, entry)
            if name == b"image":
                image = _first(payload, _first(payload, feature, 1), 1)
            elif name == b"label":
                label = _first_integer(payload, _first(payload, feature, 3))
    except (IndexError, ValueError):
        image = None
    if image is None:
        raise InputError(f"record {record} is not an Example with an `image`.", path, REMEDY)
    return payload[slice(*image)], label


def _usual_layout(payload: bytes) -> tuple[bytes, int] | None:
    """As `decode_example`, where all around the image is as `encode_example` writes it.

    So it is in most records, and for small images the parser takes as long as the resize. None
    where a single byte differs: then the parser looks.
    """
    size = len(payload)
    name = payload.rfind(LABEL_NAME, size - LONGEST_END)
    if name < 0 or size > MOST_KEPT:
        return None
    try:
        label, _ = _read_varint(payload, name + len(LABEL_NAME) + 5)
    except (IndexError, ValueError):
        return None
    start, end = _usual_framing(size, label)
    if start and payload.startswith(start) and payload.endswith(end):
        return payload[len(start) : size - len(end)], label
    return None


@lru_cache(maxsize=1 << 14)
def _usual_framing(size: int, label: int) -> tuple[bytes, bytes]:
    """What comes before and after the image in a payload of this size; empty if none has it."""
    for length in range(max(0, size - LONGEST_FRAMING), size):
        usual = encode_example(bytes(length), label)
        if len(usual) == size:
            end = _label_message(label)
            return usual[: size - len(end) - length], end
    return b"", b""


# The parser passes spans (start, stop) of the one payload on, so that no image is copied twice.


def _read_varint(data: bytes, position: int) -> tuple[int, int]:
    value = data[position]
    position += 1
    if value < 0x80:
        return value, position
    value, shift = value & 0x7F, 7
    while True:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
        if shift > 63:
            raise ValueError("varint longer than ten bytes")


def _fields(data: bytes, span: Span) -> list[tuple[int, Span]]:
    """Number and content of length-delimited fields; other wire types are stepped over."""
    position, stop = span
    found = []
    while position < stop:
        tag = data[position]
        position += 1
        if tag > 0x7F:
            tag, position = _read_varint(data, position - 1)
        wire = tag & 7
        if wire == _WIRE_BYTES:
            length, position = _read_varint(data, position)
            content = position, position + length
            position += length
            if position > stop:
                raise ValueError("field longer than its message")
            found.append((tag >> 3, content))
        elif wire == _WIRE_VARINT:
            _, position = _read_varint(data, position)
        elif wire in (_WIRE_64, _WIRE_32):
            position += 8 if wire == _WIRE_64 else 4
        else:
            raise ValueError("unknown wire type")
    if position > stop:
        raise ValueError("message cut off")
    return found


def _all(data: bytes, span: Span, wanted: int) -> list[Span]:
    return [content for number, content in _fields(data, span) if number == wanted]


def _first(data: bytes, span: Span, wanted: int) -> Span:
    found = _all(data, span, wanted)
    if not found:
        raise ValueError("missing field")
    return found[0]


def _map_entry(data: bytes, entry: Span) -> tuple[bytes, Span]:
    parts = dict(_fields(data, entry))
    start, stop = parts.get(1, (0, 0))
    return data[start:stop], parts.get(2, (0, 0))


def _first_integer(data: bytes, int64_list: Span) -> int:
    """The first value of an Int64List, packed (as TensorFlow writes it) or not."""
    start, stop = int64_list
    tag, position = _read_varint(data, start)
    if tag & 7 == _WIRE_BYTES:
        _, position = _read_varint(data, position)
    value, position = _read_varint(data, position)
    if position > stop:
        raise ValueError("message cut off")
    return value
