"""ClickMe shards: what a good record decodes to, and that each bad one is one line naming file and record."""

import hashlib
import io

import numpy as np
import pytest
from PIL import Image

from advalign.data.clickme import decode_jpeg, read_clickme, read_human_ceiling, split_shards
from advalign.data.tfrecord import encode_example, write_payloads
from advalign.errors import DataError
from advalign.files import Project

RNG = np.random.default_rng(0)
PIXELS = np.kron(RNG.integers(0, 256, (4, 6, 3)), np.ones((8, 8, 1))).astype(np.uint8)
MAP = PIXELS[..., 0]


def encoded(pixels, kind="JPEG", mode=None):
    buffer = io.BytesIO()
    image = Image.fromarray(pixels)
    (image.convert(mode) if mode else image).save(buffer, kind, **({"quality": 95} if kind == "JPEG" else {}))
    return buffer.getvalue()


GOOD = {"image": encoded(PIXELS), "heatmap": encoded(MAP), "label": 3}


@pytest.fixture
def shard(tmp_path):
    def write(*records):
        path = tmp_path / "test-00000.tfrecords"
        write_payloads(path, [encode_example(record) for record in records])
        return path

    return write


def refused(path, classes=10):
    """The message about a shard whose record 0 is good and whose record 1 is not."""
    reader = read_clickme([path], classes)
    assert next(reader).label == 3
    with pytest.raises(DataError) as caught:
        next(reader)
    text = str(caught.value)
    assert text.startswith(f"{path}: record 1: ")
    assert "\n" not in text
    return text.removeprefix(f"{path}: record 1: ")


def test_a_good_record_by_value(shard):
    lossless = {"image": encoded(PIXELS, "PNG"), "heatmap": encoded(MAP, "PNG"), "label": 9}
    first, second = read_clickme([shard(GOOD, lossless)], 10)
    assert (first.source, second.source) == ("test-00000.tfrecords:0", "test-00000.tfrecords:1")
    assert (first.label, second.label) == (3, 9)
    assert first.sha256 == hashlib.sha256(GOOD["image"]).hexdigest()
    assert first.image.dtype == first.heatmap.dtype == np.uint8
    assert np.array_equal(first.image, np.asarray(Image.open(io.BytesIO(GOOD["image"]))))
    assert np.abs(first.heatmap.astype(int) - MAP).max() < 20
    assert np.array_equal(second.image, PIXELS)
    assert np.array_equal(second.heatmap, MAP)


def test_shards_are_read_one_after_the_other_in_the_given_order(shard, tmp_path):
    other = tmp_path / "test-00001.tfrecords"
    write_payloads(other, [encode_example({**GOOD, "label": label}) for label in (5, 6)])
    found = [(record.source, record.label) for record in read_clickme([other, shard(GOOD)], 10)]
    assert found == [("test-00001.tfrecords:0", 5), ("test-00001.tfrecords:1", 6), ("test-00000.tfrecords:0", 3)]


@pytest.mark.parametrize("name", ["image", "heatmap", "label"])
def test_a_missing_feature_is_named(shard, name):
    text = refused(shard(GOOD, {key: value for key, value in GOOD.items() if key != name}))
    assert text.startswith(f"feature {name!r} is missing")


@pytest.mark.parametrize(
    ("name", "value", "kind"), [("image", 7, "bytes"), ("heatmap", 0, "bytes"), ("label", b"3", "int")]
)
def test_a_feature_of_another_type_is_named(shard, name, value, kind):
    text = refused(shard(GOOD, {**GOOD, name: value}))
    assert text.startswith(f"feature {name!r} is")
    assert f"not {kind}" in text


def test_a_heatmap_of_another_size_tells_both_sizes(shard):
    assert refused(shard(GOOD, {**GOOD, "heatmap": encoded(MAP[:, :40])})).startswith(
        "heatmap is 40x32, its image 48x32"
    )
    assert "heatmap is 32x48" in refused(shard(GOOD, {**GOOD, "heatmap": encoded(np.ascontiguousarray(MAP.T))}))


@pytest.mark.parametrize("label", [-1, 10, 2**40])
def test_a_label_out_of_range_tells_the_range(shard, label):
    assert refused(shard(GOOD, {**GOOD, "label": label})).startswith(f"label {label} is outside 0 .. 9")


def test_the_last_label_in_range_is_fine(shard):
    assert [record.label for record in read_clickme([shard({**GOOD, "label": 9})], 10)] == [9]


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("image", encoded(PIXELS, mode="CMYK"), "image is CMYK, expected RGB"),
        ("image", encoded(MAP), "image is L, expected RGB"),
        ("image", encoded(PIXELS, "PNG", mode="RGBA"), "image is RGBA, expected RGB"),
        ("image", encoded(PIXELS, "PNG", mode="P"), "image is P, expected RGB"),
        ("heatmap", encoded(PIXELS), "heatmap is RGB, expected L"),
        ("heatmap", encoded(MAP, "PNG", mode="1"), "heatmap is 1, expected L"),
    ],
)
def test_another_colour_mode_is_told(shard, name, content, told):
    assert refused(shard(GOOD, {**GOOD, name: content})).startswith(told)


def resized_header(jpeg, side):
    """The same JPEG with another size in its frame header (SOF0)."""
    at = jpeg.index(b"\xff\xc0")
    return jpeg[: at + 5] + side.to_bytes(2, "big") * 2 + jpeg[at + 9 :]


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"not an image at all", id="text"),
        pytest.param(GOOD["image"][:-400], id="truncated"),
        pytest.param(GOOD["image"][:30], id="only the start"),
        pytest.param(PIXELS.tobytes(), id="raw pixels"),
        pytest.param(resized_header(GOOD["image"], 40000), id="absurd size"),
        pytest.param(b"\x89PNG\r\n\x1a\n\0\0\0\1IHDRx\0\0\0\0", id="broken PNG header"),
        pytest.param(b"P6\n1x6 16\n255\n", id="broken header of another format"),
    ],
)
@pytest.mark.parametrize("name", ["image", "heatmap"])
def test_what_is_no_image_cannot_be_decoded(shard, name, content):
    assert refused(shard(GOOD, {**GOOD, name: content})).startswith(f"{name} cannot be decoded")


def test_the_reason_holds_no_address_in_memory():
    with pytest.raises(DataError) as caught:
        decode_jpeg(b"not an image at all", "RGB", "here")
    assert " object at 0x" not in str(caught.value)


def test_only_jpeg_and_png_are_decoded():
    for kind in ("BMP", "GIF", "TIFF"):
        with pytest.raises(DataError, match=r"^here "):
            decode_jpeg(encoded(PIXELS, kind, mode="RGB"), "RGB", "here")


def test_a_corrupt_shard_names_file_record_and_byte(shard):
    path = shard(GOOD, GOOD)
    content = path.read_bytes()
    path.write_bytes(content[:-7])
    reader = read_clickme([path], 10)
    next(reader)
    with pytest.raises(DataError, match=rf"record 1 at byte {len(content) // 2}: truncated"):
        next(reader)


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "data" / "clickme"
    path.mkdir(parents=True)
    return path


def test_shards_of_a_split_are_sorted_and_its_own(tmp_path, folder):
    for name in ("test-00001", "test-00000", "test-00010", "train-00000", "test-x.tfrecords.bak", ".test-0.1.tmp"):
        (folder / f"{name}.tfrecords" if name[-1].isdigit() else folder / name).touch()
    found = split_shards(Project(tmp_path), "test")
    assert [path.name for path in found] == [f"test-000{n}.tfrecords" for n in ("00", "01", "10")]


def test_missing_shards_say_how_to_get_them(tmp_path, folder):
    with pytest.raises(DataError, match=r"no val-\*\.tfrecords in data/clickme: .*`dvc pull data\.dvc`"):
        split_shards(Project(tmp_path), "val")
    with pytest.raises(DataError, match=r"data/clickme is missing: .*`dvc pull data\.dvc`"):
        split_shards(Project(tmp_path / "elsewhere"), "val")


def test_ceiling_is_read(tmp_path, folder):
    (folder / "ceiling.yaml").write_text("# ClickMe\nhuman_ceiling: 0.65753\nimages: 100\n")
    assert read_human_ceiling(Project(tmp_path)) == 0.65753
    (folder / "ceiling.yaml").write_text("human_ceiling: 1\n")
    assert read_human_ceiling(Project(tmp_path)) == 1.0


@pytest.mark.parametrize("value", ["0", "-0.5", "1.01", "65.753"])
def test_ceiling_outside_its_range_is_told(tmp_path, folder, value):
    (folder / "ceiling.yaml").write_text(f"human_ceiling: {value}\n")
    with pytest.raises(DataError, match=r"ceiling\.yaml: human_ceiling must lie in \(0, 1\], got"):
        read_human_ceiling(Project(tmp_path))


@pytest.mark.parametrize("value", [".nan", ".inf"])
def test_a_ceiling_that_is_no_finite_number_is_told(tmp_path, folder, value):
    (folder / "ceiling.yaml").write_text(f"human_ceiling: {value}\n")
    with pytest.raises(DataError, match=rf"ceiling\.yaml: line 1: {value} is no finite number"):
        read_human_ceiling(Project(tmp_path))


@pytest.mark.parametrize(
    "content", ["", "- 0.6\n", "0.6\n", "ceiling: 0.6\n", "human_ceiling: high\n", "human_ceiling:\n"]
)
def test_a_ceiling_file_of_another_shape_is_told(tmp_path, folder, content):
    (folder / "ceiling.yaml").write_text(content)
    with pytest.raises(DataError, match=r"ceiling\.yaml: expected `human_ceiling: <number>`$"):
        read_human_ceiling(Project(tmp_path))


def test_a_missing_ceiling_says_how_to_get_it(tmp_path, folder):
    with pytest.raises(DataError, match=r"data/clickme/ceiling\.yaml is missing: .*`dvc pull data\.dvc`"):
        read_human_ceiling(Project(tmp_path))
