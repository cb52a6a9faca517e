"""TFRecord files of tf.train.Example messages, read and written with their checksums.

A record is: length (uint64), masked CRC-32C of the length (uint32), payload, masked CRC-32C of the payload (uint32),
all little-endian. No maintained library checks these sums without TensorFlow, so this module reads the frame; libraries
compute the checksum and parse the message (google-crc32c, protobuf). Source: TensorFlow's record_writer.h and
example.proto.
"""

import struct
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO

import google_crc32c
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

from advalign.errors import DataError
from advalign.files import replacing
from advalign.regular_files import lookalike, open_file

_MASK_DELTA = 0xA282EAD8
_HEADER = 12  # bytes: length and its checksum
_LARGEST = 1 << 30  # a longer record than 1 GiB is a corrupt length, not data

Feature = bytes | int | list[float]


def masked_crc(data: bytes) -> int:
    """CRC-32C, rotated and shifted: sums of data that holds sums stay well distributed.

    >>> hex(masked_crc(bytes(32)))  # unmasked: 0x8a9136aa (RFC 3720, B.4)
    '0xfd7fffa'
    """
    crc: int = google_crc32c.value(data)
    return (((crc >> 15) | (crc << 17)) + _MASK_DELTA) & 0xFFFFFFFF


def read_payloads(path: Path) -> Iterator[bytes]:
    """Yield the payload of every record of a shard.

    Raises:
        DataError: missing, truncated or corrupt; names the file, the record (from 0) and the byte offset.
    """
    with _opened(path) as file:
        record = 0
        while True:
            where = f"{path}: record {record} at byte {file.tell()}"
            header = file.read(_HEADER)
            if not header:
                return
            yield _read_record(file, header, where)
            record += 1


def _read_record(file: BinaryIO, header: bytes, where: str) -> bytes:
    length = _length(header, where)
    body = file.read(length + 4)
    if len(body) < length + 4:
        raise DataError(f"{where}: truncated, {len(body)} of {length + 4} bytes are there; fetch the file again")
    payload = body[:length]
    if masked_crc(payload) != struct.unpack("<I", body[length:])[0]:
        raise DataError(f"{where}: corrupt data (checksum differs); fetch the file again")
    return payload


def _length(header: bytes, where: str) -> int:
    if len(header) < _HEADER:
        raise DataError(f"{where}: {(header and lookalike(header)) or 'truncated header; fetch the file again'}")
    length, length_crc = struct.unpack("<QI", header)
    if masked_crc(header[:8]) != length_crc or length > _LARGEST:
        raise DataError(f"{where}: {lookalike(header) or 'corrupt length (checksum differs); fetch the file again'}")
    return int(length)


def record_offsets(path: Path) -> list[int]:
    """The byte offset of every record of a shard; only the headers are read.

    Raises:
        DataError: missing, truncated, or a header is corrupt; names the file, the record and the byte offset.
    """
    offsets: list[int] = []
    with _opened(path) as file:
        size, begin = path.stat().st_size, 0
        while begin < size:
            where = f"{path}: record {len(offsets)} at byte {begin}"
            file.seek(begin)
            end = begin + _HEADER + _length(file.read(_HEADER), where) + 4
            if end > size:
                raise DataError(f"{where}: truncated, the file ends before it; fetch the file again")
            offsets.append(begin)
            begin = end
    return offsets


def read_example(path: Path, offset: int, record: int) -> dict[str, Feature]:
    """Read the record that begins at an offset (`record_offsets`), as `read_examples` gives it.

    Raises:
        DataError: as `read_examples`.
    """
    with _opened(path) as file:
        file.seek(offset)
        payload = _read_record(file, file.read(_HEADER), f"{path}: record {record} at byte {offset}")
    return _features(payload, path, record)


def _opened(path: Path) -> BinaryIO:
    try:
        return open_file(path, DataError)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None


def read_examples(path: Path) -> Iterator[dict[str, Feature]]:
    """Yield every record as feature name -> value: bytes, an integer, or a list of floats.

    A feature with several values gives the list of them, which no reader of one value takes (`clickme.feature`).

    Raises:
        DataError: as `read_payloads`, or a record is not a tf.train.Example.
    """
    for record, payload in enumerate(read_payloads(path)):
        yield _features(payload, path, record)


def _features(payload: bytes, path: Path, record: int) -> dict[str, Feature]:
    try:
        example = _example_class().FromString(payload)
    except DecodeError:
        raise DataError(
            f"{path}: record {record} is not a tf.train.Example: write it as one, or fetch the file again"
        ) from None
    return {name: _value(feature) for name, feature in example.features.feature.items()}


def _value(feature: Any) -> Feature:
    kind = feature.WhichOneof("kind")
    values = list(getattr(feature, kind).value) if kind else []
    if kind == "float_list" or len(values) > 1:
        return values
    return values[0] if values else b""


def encode_example(features: Mapping[str, bytes | int]) -> bytes:
    """Serialise bytes and integers as a tf.train.Example (deterministic: features sorted by name)."""
    example = _example_class()()
    for name in sorted(features):
        value = features[name]
        target = example.features.feature[name]
        (target.bytes_list if isinstance(value, bytes) else target.int64_list).value.append(value)
    encoded: bytes = example.SerializeToString(deterministic=True)
    return encoded


def write_payloads(path: Path, payloads: Iterable[bytes]) -> None:
    """Write a shard and move it into place."""
    with replacing(path) as temporary, temporary.open("wb") as file:
        for payload in payloads:
            header = struct.pack("<Q", len(payload))
            file.write(header + struct.pack("<I", masked_crc(header)))
            file.write(payload + struct.pack("<I", masked_crc(payload)))


@cache
def _example_class() -> Any:
    """The tf.train.Example message class, built from its published field numbers."""
    file = descriptor_pb2.FileDescriptorProto(name="advalign/example.proto", package="advalign.tf", syntax="proto3")
    field_type = descriptor_pb2.FieldDescriptorProto
    for name, kind in (("BytesList", "BYTES"), ("FloatList", "FLOAT"), ("Int64List", "INT64")):
        message = file.message_type.add(name=name)
        message.field.add(name="value", number=1, label=3, type=getattr(field_type, f"TYPE_{kind}"))
    feature = file.message_type.add(name="Feature")
    feature.oneof_decl.add(name="kind")
    for number, kind in enumerate(("BytesList", "FloatList", "Int64List"), start=1):
        name = kind.replace("List", "_list").lower()
        feature.field.add(name=name, number=number, label=1, type=11, type_name=f".advalign.tf.{kind}", oneof_index=0)
    features = file.message_type.add(name="Features")
    entry = features.nested_type.add(name="FeatureEntry")
    entry.options.map_entry = True
    entry.field.add(name="key", number=1, label=1, type=field_type.TYPE_STRING)
    entry.field.add(name="value", number=2, label=1, type=11, type_name=".advalign.tf.Feature")
    features.field.add(name="feature", number=1, label=3, type=11, type_name=".advalign.tf.Features.FeatureEntry")
    example = file.message_type.add(name="Example")
    example.field.add(name="features", number=1, label=1, type=11, type_name=".advalign.tf.Features")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("advalign.tf.Example"))
