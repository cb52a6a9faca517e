"""TFRecord shards against an independent writer: documented checksums, the frame and the message byte by byte."""

import bz2
import gzip
import lzma
import re
import struct
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from advalign.data import clickme
from advalign.data.tfrecord import (
    encode_example,
    masked_crc,
    read_example,
    read_examples,
    read_payloads,
    record_offsets,
    write_payloads,
)
from advalign.errors import DataError
from tests.foreign import example, shard

QUICK = settings(max_examples=60, deadline=None)


def table_crc32c(data):
    """CRC-32C by the textbook: reflected polynomial 0x82F63B78, one table look-up per byte."""
    table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
        table.append(value)
    crc = 0xFFFFFFFF
    for byte in data:
        crc = table[(crc ^ byte) & 0xFF] ^ crc >> 8
    return crc ^ 0xFFFFFFFF


def mask(crc):
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) % 2**32


def unmask(masked):
    rotated = (masked - 0xA282EAD8) % 2**32
    return (rotated >> 17 | rotated << 15) % 2**32


def frame(payload):
    length = struct.pack("<Q", len(payload))
    return (
        length
        + struct.pack("<I", mask(table_crc32c(length)))
        + payload
        + struct.pack("<I", mask(table_crc32c(payload)))
    )


def varint(value):
    value %= 2**64
    encoded = b""
    while value > 0x7F:
        encoded, value = encoded + bytes([value & 0x7F | 0x80]), value >> 7
    return encoded + bytes([value])


def field(number, content):
    """A length-delimited protobuf field."""
    return varint(number << 3 | 2) + varint(len(content)) + content


def feature(name, kind, value_list):
    """An entry of the feature map: key = 1, value = 2; kind: 1 bytes, 2 floats, 3 integers."""
    return field(1, field(1, name.encode()) + field(2, field(kind, value_list)))


def message(*entries):
    return field(1, b"".join(entries))


# RFC 3720, appendix B.4, and the check value of the CRC catalogue
VECTORS = [
    (bytes(32), 0x8A9136AA),
    (b"\xff" * 32, 0x62A8AB43),
    (bytes(range(32)), 0x46DD794E),
    (bytes(range(31, -1, -1)), 0x113FDB5C),
    (b"123456789", 0xE3069283),
    (b"", 0),
]


@pytest.mark.parametrize(("data", "crc"), VECTORS)
def test_documented_checksums(data, crc):
    assert unmask(masked_crc(data)) == crc
    assert masked_crc(data) == mask(crc)
    assert table_crc32c(data) == crc


@QUICK
@given(st.binary(max_size=300))
def test_checksum_agrees_with_the_textbook(data):
    assert masked_crc(data) == mask(table_crc32c(data))


def test_frame_is_byte_exact(tmp_path):
    path = tmp_path / "a.tfrecords"
    payloads = [b"hello", b"", bytes(range(256)) * 5]
    write_payloads(path, payloads)
    assert path.read_bytes() == b"".join(map(frame, payloads))
    assert path.read_bytes()[:8] == b"\x05\0\0\0\0\0\0\0"
    assert path.read_bytes()[12:17] == b"hello"
    assert list(read_payloads(path)) == payloads


def test_an_independent_writers_file_is_read(tmp_path):
    path = tmp_path / "foreign"
    path.write_bytes(b"".join(frame(bytes([number]) * number) for number in range(40)))
    assert list(read_payloads(path)) == [bytes([number]) * number for number in range(40)]


@QUICK
@given(payloads=st.lists(st.binary(max_size=60), max_size=6))
def test_round_trip_of_payloads(tmp_path_factory, payloads):
    path = tmp_path_factory.mktemp("shards") / "x"
    write_payloads(path, iter(payloads))
    assert list(read_payloads(path)) == payloads


def test_a_failing_source_leaves_no_half_shard(tmp_path):
    def source():
        yield b"one"
        raise RuntimeError("no more")

    with pytest.raises(RuntimeError, match="no more"):
        write_payloads(tmp_path / "shard", source())
    assert list(tmp_path.iterdir()) == []


def test_encoding_is_byte_exact_and_sorted_by_name():
    encoded = encode_example({"label": 300, "image": b"\xff\xd8", "heatmap": b""})
    assert encoded == message(
        feature("heatmap", 1, field(1, b"")),
        feature("image", 1, field(1, b"\xff\xd8")),
        feature("label", 3, field(1, varint(300))),
    )
    assert encode_example({"image": b"\xff\xd8", "heatmap": b"", "label": 300}) == encoded


@QUICK
@given(st.dictionaries(st.text(max_size=8), st.binary(max_size=200) | st.integers(-(2**63), 2**63 - 1), max_size=5))
def test_round_trip_of_examples(tmp_path_factory, features):
    path = tmp_path_factory.mktemp("examples") / "x"
    write_payloads(path, [encode_example(features)])
    assert list(read_examples(path)) == [features]


def read_one(tmp_path, payload):
    (tmp_path / "one").write_bytes(frame(payload))
    (found,) = read_examples(tmp_path / "one")
    return found


def test_messages_of_other_writers_are_read(tmp_path):
    floats = [0.5, -2.0, 1e30]
    packed_floats = field(1, struct.pack("<3f", *floats))
    unpacked_floats = b"".join(varint(1 << 3 | 5) + struct.pack("<f", value) for value in floats)
    unpacked_integers = varint(1 << 3) + varint(-7) + varint(1 << 3) + varint(8)
    found = read_one(
        tmp_path,
        message(
            feature("floats", 2, packed_floats),
            feature("loose_floats", 2, unpacked_floats),
            feature("packed", 3, field(1, varint(-5) + varint(6))),
            feature("loose", 3, unpacked_integers),
            feature("bytes", 1, field(1, b"first") + field(1, b"second")),
            feature("nothing", 1, b""),
            field(1, field(1, b"unset")),
        ),
    )
    expected = [0.5, -2.0, struct.unpack("<f", struct.pack("<f", 1e30))[0]]
    assert found == {
        "floats": expected,
        "loose_floats": expected,
        "packed": [-5, 6],
        "loose": [-7, 8],
        "bytes": [b"first", b"second"],
        "nothing": b"",
        "unset": b"",
    }


def test_one_value_is_the_value_and_a_list_of_one_is_not_a_list(tmp_path):
    found = read_one(tmp_path, message(feature("a", 3, field(1, varint(6))), feature("b", 1, field(1, b"only"))))
    assert found == {"a": 6, "b": b"only"}


def test_unknown_fields_and_an_empty_message_do_no_harm(tmp_path):
    assert read_one(tmp_path, message(feature("a", 3, field(1, b"\x03"))) + field(9, b"later")) == {"a": 3}
    assert read_one(tmp_path, b"") == {}


def test_a_payload_that_is_no_message_names_file_and_record(tmp_path):
    path = tmp_path / "bad.tfrecords"
    path.write_bytes(frame(encode_example({"label": 1})) + frame(b"\x0a\xff\xff\xff"))
    reader = read_examples(path)
    assert next(reader) == {"label": 1}
    with pytest.raises(DataError, match=rf"^{re.escape(str(path))}: record 1 .*is not a tf\.train\.Example"):
        next(reader)


FIRST, SECOND = b"first payload", b"the second one"


def test_truncation_at_every_byte_is_found_and_located(tmp_path):
    path = tmp_path / "cut.tfrecords"
    whole = frame(FIRST) + frame(SECOND)
    boundary = len(frame(FIRST))
    for size in range(len(whole) + 1):
        path.write_bytes(whole[:size])
        complete = [FIRST, SECOND][: (size >= boundary) + (size == len(whole))]
        if size in (0, boundary, len(whole)):
            assert list(read_payloads(path)) == complete
            continue
        reader, record = read_payloads(path), int(size > boundary)
        assert [next(reader) for _ in range(record)] == complete
        with pytest.raises(DataError) as caught:
            next(reader)
        text = str(caught.value)
        assert text.startswith(f"{path}: record {record} at byte {boundary * record}: truncated"), (size, text)
        assert "\n" not in text
        rest = size - boundary * record - 12
        if rest >= 0:
            assert f"{rest} of {len((FIRST, SECOND)[record]) + 4} bytes" in text


def test_every_flipped_bit_is_found_and_located(tmp_path):
    path = tmp_path / "flipped.tfrecords"
    whole = frame(FIRST) + frame(SECOND)
    boundary = len(frame(FIRST))
    for position in range(len(whole)):
        for bit in range(8):
            path.write_bytes(whole[:position] + bytes([whole[position] ^ 1 << bit]) + whole[position + 1 :])
            record = int(position >= boundary)
            with pytest.raises(DataError) as caught:
                list(read_payloads(path))
            assert str(caught.value).startswith(f"{path}: record {record} at byte {boundary * record}: corrupt")


def test_an_absurd_length_with_a_right_checksum_is_refused_before_it_is_read(tmp_path):
    path = tmp_path / "huge"
    length = struct.pack("<Q", 2**62)
    path.write_bytes(length + struct.pack("<I", mask(table_crc32c(length))) + b"x" * 100)
    with pytest.raises(DataError, match="record 0 at byte 0"):
        list(read_payloads(path))


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (gzip.compress(frame(FIRST)), "looks like gzip data: unpack it"),
        (zlib.compress(frame(FIRST)), "looks like zlib data: write it again without compression"),
        (bz2.compress(frame(FIRST)), "looks like bzip2 data: unpack it"),
        (lzma.compress(frame(FIRST)), "looks like xz data: unpack it"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d\nsize 9\n", r"a Git LFS pointer.*`git lfs pull`"),
        (b"outs:\n- md5: 11\n  path: a.tfrecords\n", "a pointer of DVC.*`dvc pull`"),
        (b"\n  <!DOCTYPE html><html>sign in</html>", "looks like a web page, .* asks for a login"),
        (b"404\n", "looks like text .'404'.*a server's error"),
        (b"Rate limit exceeded, try again later", "looks like text .'Rate limit e'"),
        (bytes(range(1, 40)), "corrupt length .checksum differs.; fetch the file again"),
    ],
    ids=["gzip", "zlib", "bzip2", "xz", "git lfs", "dvc", "html", "status", "text", "damaged"],
)
@pytest.mark.parametrize("read", [record_offsets, lambda path: list(read_payloads(path))], ids=["offsets", "payloads"])
def test_what_stands_in_a_shards_place_is_told_with_its_own_remedy(tmp_path, content, told, read):
    path = tmp_path / "a.tfrecords"
    path.write_bytes(content)
    with pytest.raises(DataError, match=rf"\A{re.escape(str(path))}: record 0 at byte 0: .*{told}") as caught:
        read(path)
    if "unpack" in told or "pull" in told:
        assert "fetch the file again" not in str(caught.value)


def test_garbage_after_the_last_record_is_found(tmp_path):
    path = tmp_path / "appended"
    path.write_bytes(frame(FIRST) + b"\n")
    reader = read_payloads(path)
    assert next(reader) == FIRST
    with pytest.raises(DataError, match=f"record 1 at byte {len(frame(FIRST))}: truncated"):
        next(reader)


def test_a_file_that_cannot_be_opened_is_one_line(tmp_path):
    for path, why in ((tmp_path / "absent", r": cannot be read \(.+\)"), (tmp_path, " is a folder, expected .+")):
        with pytest.raises(DataError, match=rf"^{re.escape(str(path))}{why}$"):
            list(read_payloads(path))


@QUICK
@given(
    st.lists(st.dictionaries(st.text(max_size=5), st.binary(max_size=80) | st.integers(-9, 9), max_size=3), max_size=6)
)
def test_records_read_by_offset_are_those_read_in_order(tmp_path_factory, examples):
    path = tmp_path_factory.mktemp("offsets") / "x"
    payloads = [encode_example(features) for features in examples]
    write_payloads(path, payloads)
    offsets = record_offsets(path)
    assert offsets == [sum(16 + len(before) for before in payloads[:number]) for number in range(len(payloads))]
    found = [read_example(path, offset, number) for number, offset in reversed(list(enumerate(offsets)))][::-1]
    assert found == list(read_examples(path)) == examples


def test_offsets_are_found_in_an_independent_writers_file(tmp_path):
    path = tmp_path / "foreign"
    path.write_bytes(b"".join(frame(bytes(number)) for number in (0, 5, 0, 300)))
    assert record_offsets(path) == [0, 16, 37, 53]
    path.write_bytes(b"")
    assert record_offsets(path) == []


def test_truncation_at_every_byte_is_found_by_headers_alone(tmp_path):
    path = tmp_path / "cut.tfrecords"
    whole = frame(FIRST) + frame(SECOND)
    boundary = len(frame(FIRST))
    for size in range(len(whole) + 1):
        path.write_bytes(whole[:size])
        if size in (0, boundary, len(whole)):
            assert record_offsets(path) == [0, boundary][: (size >= boundary) + (size == len(whole))]
            continue
        record = int(size > boundary)
        header = size - boundary * record < 12
        said = "truncated header" if header else "truncated, the file ends before it"
        line = f"{path}: record {record} at byte {boundary * record}: {said}; fetch the file again"
        with pytest.raises(DataError, match=rf"\A{re.escape(line)}\Z"):
            record_offsets(path)


def test_every_flipped_bit_is_found_in_the_headers_at_once_elsewhere_when_the_record_is_read(tmp_path):
    path = tmp_path / "flipped.tfrecords"
    payloads = [encode_example({"a": number}) for number in range(2)]
    write_payloads(path, payloads)
    whole, boundary = path.read_bytes(), 16 + len(payloads[0])
    for position in range(len(whole)):
        record, within = divmod(position, boundary)
        where = f"{path}: record {record} at byte {boundary * record}: corrupt"
        for bit in range(8):
            path.write_bytes(whole[:position] + bytes([whole[position] ^ 1 << bit]) + whole[position + 1 :])
            with pytest.raises(DataError, match=rf"\A{re.escape(where)} .*; fetch the file again\Z"):
                read_example(path, boundary * record, record)
            assert read_example(path, boundary * (1 - record), 1 - record) == {"a": 1 - record}
            if within < 12:
                with pytest.raises(DataError, match=rf"\A{re.escape(where)} length"):
                    record_offsets(path)
            else:
                assert record_offsets(path) == [0, boundary]


def test_an_absurd_length_with_a_right_checksum_is_refused_by_headers_too(tmp_path):
    path = tmp_path / "huge"
    for claimed in (2**62, 2**30 + 1):
        length = struct.pack("<Q", claimed)
        path.write_bytes(frame(FIRST) + length + struct.pack("<I", mask(table_crc32c(length))) + b"x" * 100)
        for read in (record_offsets, lambda path: read_example(path, len(frame(FIRST)), 1)):
            with pytest.raises(DataError, match=f"record 1 at byte {len(frame(FIRST))}: corrupt length"):
                read(path)


def test_a_record_read_by_offset_has_all_values_of_its_features(tmp_path):
    """So whoever expects one label refuses a one-hot label, in training too."""
    shard(tmp_path / "onehot", example(label=[0, 0, 1], text=b"a"))
    record = read_example(tmp_path / "onehot", 0, 0)
    assert record == next(read_examples(tmp_path / "onehot")) == {"label": [0, 0, 1], "text": b"a"}
    with pytest.raises(DataError, match="'label' has 3 values, expected one"):
        clickme.feature(record, "label", int, "here")


def test_an_offset_past_the_end_or_between_records_is_one_line(tmp_path):
    """As after a shard was replaced by a shorter one while a training runs."""
    path = tmp_path / "replaced"
    write_payloads(path, [encode_example({"a": 1})])
    size = path.stat().st_size
    for offset, said in ((size, "truncated header"), (size + 999, "truncated header"), (3, "corrupt length")):
        with pytest.raises(DataError, match=rf"\A{re.escape(str(path))}: record 7 at byte {offset}: {said}"):
            read_example(path, offset, 7)


def test_a_record_read_by_offset_that_is_no_message_or_not_there_is_one_line(tmp_path):
    path = tmp_path / "bad.tfrecords"
    path.write_bytes(frame(encode_example({"label": 1})) + frame(b"\x0a\xff\xff\xff"))
    offsets = record_offsets(path)
    assert read_example(path, offsets[0], 0) == {"label": 1}
    with pytest.raises(DataError, match=rf"\A{re.escape(str(path))}: record 1 .*is not a tf\.train\.Example"):
        read_example(path, offsets[1], 1)
    for absent, why in ((tmp_path / "absent", r": cannot be read \(.+\)"), (tmp_path, " is a folder, expected .+")):
        for read in (record_offsets, lambda path: read_example(path, 0, 0)):
            with pytest.raises(DataError, match=rf"\A{re.escape(str(absent))}{why}\Z"):
                read(absent)
