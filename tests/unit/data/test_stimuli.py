"""The stimulus set: which images are chosen, what becomes of their pixels, and what is read back from disk."""

import hashlib
import random
import shutil
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision.transforms import v2 as transforms

from advalign.data.centre_crop import centre_crop
from advalign.data.classes import Classes, ClassInfo, read_classes, write_classes
from advalign.data.clickme import ClickMeRecord, read_clickme, split_shards
from advalign.data.results import write_table
from advalign.data.sets.stimuli import StimulusSet, load_stimuli
from advalign.data.stimuli import choose, freeze_stimuli, save_stimuli
from advalign.data.tfrecord import read_payloads, write_payloads
from advalign.errors import DataError
from advalign.files import Project
from advalign.settings import StimuliSettings, load_settings

NOTHING = np.zeros((1, 1), np.uint8)
SUPERCLASSES = ("dog", "bird", "food")
# five categories per superclass, interleaved, and two classes of no superclass
CLASSES = Classes(
    tuple(
        ClassInfo(k, f"n{k:08d}", f"category {k}", SUPERCLASSES[k % 3] if k < 15 else None, k % 3 < 2)
        for k in range(17)
    )
)
SETTINGS = StimuliSettings(categories_per_superclass=3, images_per_category=2)


def record(label, number):
    digest = hashlib.sha256(f"{label}/{number}".encode()).hexdigest()
    return ClickMeRecord(f"test-0:{label * 100 + number}", digest, NOTHING, NOTHING, label)


RECORDS = [record(label, number) for number in range(6) for label in range(len(CLASSES))]


def identities(records):
    return [item.sha256 for item in records]


def chosen(records=RECORDS, seed=0, wanted=SETTINGS):
    return choose(records, CLASSES, wanted, seed)


def test_counts_are_stratified():
    found = chosen()
    assert len(found) == len(set(identities(found))) == 3 * 3 * 2
    assert Counter(CLASSES[item.label].superclass for item in found) == dict.fromkeys(SUPERCLASSES, 6)
    assert set(Counter(item.label for item in found).values()) == {2}


def test_the_choice_is_the_one_written_out():
    """Images and categories are drawn by the first 64 bits of SHA-256 of "seed:content"."""

    def place(key):
        return int(hashlib.sha256(f"7:{key}".encode()).hexdigest()[:16], 16)

    expected = set()
    for superclass in SUPERCLASSES:
        members = [entry for entry in CLASSES.entries if entry.superclass == superclass]
        for entry in sorted(members, key=lambda entry: place(entry.wnid))[:3]:
            images = [item for item in RECORDS if item.label == entry.index]
            expected |= {item.sha256 for item in sorted(images, key=lambda item: place(item.sha256))[:2]}
    assert set(identities(chosen(seed=7))) == expected


def test_every_prefix_is_balanced():
    found = chosen()
    for size in range(1, len(found) + 1):
        prefix = found[:size]
        per_superclass = Counter(dict.fromkeys(SUPERCLASSES, 0))
        per_superclass.update(CLASSES[item.label].superclass for item in prefix)
        assert max(per_superclass.values()) - min(per_superclass.values()) <= 1
        for name in SUPERCLASSES:
            per_category = Counter({item.label: 0 for item in found if CLASSES[item.label].superclass == name})
            per_category.update(item.label for item in prefix if CLASSES[item.label].superclass == name)
            assert max(per_category.values()) - min(per_category.values()) <= 1


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32), st.integers(0, 3))
def test_order_and_sharding_do_not_matter(shuffle, seed):
    shuffled = [replace(item, source=f"other-{n}:{n}") for n, item in enumerate(RECORDS)]
    random.Random(shuffle).shuffle(shuffled)
    assert identities(chosen(shuffled, seed)) == identities(chosen(seed=seed))


def test_another_seed_is_another_choice():
    sets = [frozenset(identities(chosen(seed=seed))) for seed in range(6)]
    assert len(set(sets)) == 6
    categories = {frozenset(item.label for item in chosen(seed=seed)) for seed in range(6)}
    assert len(categories) > 1


def test_more_records_than_needed_only_compete():
    """Removing an image that was not chosen changes nothing."""
    wanted = identities(chosen())
    rest = [item for item in RECORDS if item.sha256 not in wanted]
    assert identities(chosen([item for item in RECORDS if item is not rest[4]])) == wanted


def test_duplicates_count_once():
    copies = [replace(item, source=f"copy:{n}") for n, item in enumerate(RECORDS)]
    assert identities(chosen([*RECORDS, *copies, *RECORDS])) == identities(chosen())
    one_each = [item for item in RECORDS if item.sha256 == record(item.label, 0).sha256]
    with pytest.raises(DataError, match="too few categories with 2 images"):
        chosen(one_each * 3)


def test_too_few_images_list_the_superclasses_that_lack_them():
    lacking = [item for item in RECORDS if item.label not in (0, 3, 6) and item.label % 3 != 2]
    with pytest.raises(DataError) as caught:
        chosen(lacking)
    assert str(caught.value) == (
        "too few categories with 2 images in split 'test': "
        "dog has 2 (short: category 0 0, category 3 0, category 6 0); "
        "food has 0 (short: category 2 0, category 5 0, category 8 0, category 11 0, category 14 0), "
        "wanted 3 each (params.yaml: stimuli)"
    )
    with pytest.raises(DataError, match=r"dog has 0 .*; bird has 0 .*; food has 0"):
        chosen([])


def random_pixels(height, width, *channels):
    return np.random.default_rng(height * width).integers(0, 256, (height, width, *channels)).astype(np.uint8)


@pytest.mark.parametrize("channels", [(), (3,)])
def test_an_image_of_the_wanted_size_is_kept_as_it_is(channels):
    pixels = random_pixels(64, 64, *channels)
    assert np.array_equal(centre_crop(pixels, 64, 1.0), pixels)


def test_crop_by_hand():
    pixels = random_pixels(256, 300, 3)
    found = centre_crop(pixels, 224, 0.875)  # the shorter side has 224 / 0.875 = 256 pixels already
    assert np.array_equal(found, pixels[16:240, 38:262])
    assert np.array_equal(centre_crop(pixels[..., 0], 224, 0.875), pixels[16:240, 38:262, 0])


@pytest.mark.parametrize(("height", "width"), [(375, 500), (500, 375), (512, 512), (120, 90), (1000, 260)])
def test_resize_and_crop_agree_with_pillow(height, width):
    pixels = random_pixels(height, width, 3)
    scale = 256 / min(height, width)
    resized = Image.fromarray(pixels).resize((round(width * scale), round(height * scale)), Image.Resampling.BICUBIC)
    left, top = (resized.width - 224) // 2, (resized.height - 224) // 2
    expected = np.asarray(resized)[top : top + 224, left : left + 224]
    assert np.array_equal(centre_crop(pixels, 224, 0.875), expected)


@pytest.mark.parametrize(("height", "width"), [(375, 500), (500, 375), (256, 256)])
def test_resize_and_crop_agree_with_torchvision(height, width):
    image = Image.fromarray(random_pixels(height, width, 3))
    resize = transforms.Resize(256, transforms.InterpolationMode.BICUBIC)
    expected = np.asarray(transforms.CenterCrop(224)(resize(image)))
    assert np.array_equal(centre_crop(np.asarray(image), 224, 0.875), expected)


@pytest.fixture
def stimuli(project):
    return freeze_stimuli(project, load_settings(project.root).stimuli, 0)


def test_frozen_manifest_speaks_of_the_records_it_came_from(project, stimuli):
    classes = read_classes(project.data / "classes.yaml")
    records = {item.source: item for item in read_clickme(split_shards(project, "test"), len(classes))}
    assert len(stimuli) == 12 * 3 * 2
    for position, row in enumerate(stimuli.manifest.itertuples()):
        item, entry = records[row.source], classes[row.class_index]
        assert (row.sha256, row.class_index) == (item.sha256, item.label)
        assert (row.wnid, row.category, row.superclass) == (entry.wnid, entry.name, entry.superclass)
        assert row.animate == entry.animate == bool(row.label)
        assert row.stimulus == f"{entry.wnid}_{item.sha256[:8]}"
        assert torch.equal(stimuli.pixels[position].permute(1, 2, 0), torch.from_numpy(item.image.copy()))
        assert torch.equal(stimuli.map_pixels[position], torch.from_numpy(item.heatmap.copy()))
    assert stimuli.manifest["stimulus"].is_unique
    assert stimuli.labels.tolist() == stimuli.manifest["label"].tolist()
    assert stimuli.labels.sum() == len(stimuli) // 2


def test_images_and_maps_run_from_0_to_1_each(stimuli):
    assert stimuli.pixels.dtype == stimuli.map_pixels.dtype == torch.uint8
    for scaled, raw in ((stimuli.images, stimuli.pixels), (stimuli.heatmaps, stimuli.map_pixels)):
        assert scaled.dtype == torch.float32
        flat, plain = scaled.flatten(1), raw.flatten(1).double()
        assert torch.equal(flat.amin(1), torch.zeros(len(flat)))
        assert torch.equal(flat.amax(1), torch.ones(len(flat)))
        low, high = plain.amin(1, keepdim=True), plain.amax(1, keepdim=True)
        torch.testing.assert_close(flat.double(), (plain - low) / (high - low), rtol=0, atol=1e-6)


def test_freezing_does_not_depend_on_the_shards(project, stimuli, tmp_path):
    """The same records, shuffled into three shards: the same pixels in the same order."""
    folder = tmp_path / "data" / "clickme"
    shutil.copytree(project.data, tmp_path / "data", ignore=shutil.ignore_patterns("imagenet", "*.tfrecords"))
    payloads = [payload for shard in split_shards(project, "test") for payload in read_payloads(shard)]
    random.Random(3).shuffle(payloads)
    for shard in range(3):
        write_payloads(folder / f"test-{shard:05d}.tfrecords", payloads[shard::3])
    other = freeze_stimuli(Project(tmp_path), load_settings(project.root).stimuli, 0)
    assert other.digest == stimuli.digest
    assert other.manifest.drop(columns="source").equals(stimuli.manifest.drop(columns="source"))
    assert freeze_stimuli(project, load_settings(project.root).stimuli, 1).digest != stimuli.digest


def test_a_stimulus_that_is_a_training_image_is_refused(project, stimuli, tmp_path):
    shutil.copytree(project.data, tmp_path / "data")
    folder = tmp_path / "data" / "clickme"
    shard, number = stimuli.manifest["source"].iloc[7].split(":")
    smuggled = list(read_payloads(folder / shard))[int(number)]
    write_payloads(folder / "train-99999.tfrecords", [smuggled])
    with pytest.raises(DataError, match=rf"{shard}:{number} is also training image train-99999.tfrecords:0"):
        freeze_stimuli(Project(tmp_path), load_settings(project.root).stimuli, 0)


def test_validation_images_are_stimuli_without_maps(tmp_path):
    """From data/imagenet/val: the very pixels, maps of zeros that no rank correlation takes for maps."""
    folder = tmp_path / "data" / "imagenet"
    (folder / "val").mkdir(parents=True)
    pixels = {}
    rows = ["image,wnid"]
    for label in range(len(CLASSES)):
        for number in range(2):
            name = f"{label}_{number}.JPEG"
            pixels[name] = np.random.default_rng(len(rows)).integers(0, 256, (40, 40, 3)).astype(np.uint8)
            Image.fromarray(pixels[name]).save(folder / "val" / name, format="PNG")
            rows.append(f"{name},{CLASSES[label].wnid}")
    (folder / "labels.csv").write_text("\n".join(rows) + "\n")
    write_classes(tmp_path / "data" / "classes.yaml", CLASSES)
    wanted = SETTINGS.model_copy(update={"split": "imagenet", "size": 40, "crop": 1.0})
    found = freeze_stimuli(Project(tmp_path), wanted, 0)
    assert len(found) == 3 * 3 * 2
    for position, row in enumerate(found.manifest.itertuples()):
        assert row.source.startswith(f"{row.class_index}_")
        assert np.array_equal(found.pixels[position].permute(1, 2, 0).numpy(), pixels[row.source])
    assert not found.has_maps
    assert not found.map_pixels.any()
    save_stimuli(Project(tmp_path), found)
    assert load_stimuli(Project(tmp_path)).digest == found.digest


def test_too_large_a_wish_is_refused(project):
    wanted = load_settings(project.root).stimuli.model_copy(update={"images_per_category": 5})
    with pytest.raises(
        DataError, match=r"5 images in split 'test': dog has 0 .short: hound 4, shepherd 4, terrier 4.; bird"
    ):
        freeze_stimuli(project, wanted, 0)


def test_round_trip_on_disk(stimuli, tmp_path):
    project = Project(tmp_path)
    save_stimuli(project, stimuli)
    names = sorted(path.name for path in project.stimuli.iterdir())
    assert names == ["manifest.parquet", "stimuli.safetensors"]
    found = load_stimuli(project)
    assert found.manifest.equals(stimuli.manifest)
    assert torch.equal(found.pixels, stimuli.pixels)
    assert torch.equal(found.map_pixels, stimuli.map_pixels)
    assert found.digest == stimuli.digest
    first = {path.name: path.read_bytes() for path in project.stimuli.iterdir()}
    save_stimuli(project, stimuli)
    assert {path.name: path.read_bytes() for path in project.stimuli.iterdir()} == first


def changed(stimuli, field):
    manifest, pixels, maps = stimuli.manifest.copy(), stimuli.pixels.clone(), stimuli.map_pixels.clone()
    if field == "label":
        manifest.loc[5, "label"] = 1 - manifest.loc[5, "label"]
    elif field == "order":
        pixels = pixels.flip(0)
    else:
        target = pixels if field == "pixel" else maps
        target[-1, ..., 3, 4] ^= 1
    return StimulusSet(manifest, pixels, maps)


@pytest.mark.parametrize("field", ["pixel", "map", "label", "order"])
def test_digest_notices_every_change_of_content(stimuli, field):
    assert changed(stimuli, field).digest != stimuli.digest
    expected = hashlib.sha256()
    for tensor in (stimuli.pixels, stimuli.map_pixels, stimuli.labels):
        expected.update(tensor.numpy().tobytes())
    assert stimuli.digest == expected.hexdigest()


def test_loading_what_was_not_made_says_how_to_make_it(stimuli, tmp_path):
    project = Project(tmp_path)
    with pytest.raises(DataError, match=r"^outputs/stimuli is missing: make it with `dvc repro stimuli`$"):
        load_stimuli(project)
    for name in ("manifest.parquet", "stimuli.safetensors"):
        save_stimuli(project, stimuli)
        (project.stimuli / name).unlink()
        with pytest.raises(DataError, match="outputs/stimuli is missing"):
            load_stimuli(project)


def test_manifest_and_tensors_that_disagree_are_refused(project, stimuli, tmp_path):
    other = Project(tmp_path)
    save_stimuli(other, stimuli)
    write_table(other.stimuli / "manifest.parquet", stimuli.manifest[:-1], "of another set")
    with pytest.raises(DataError, match=r"manifest and tensors are of two sets: .*`dvc repro -f stimuli`"):
        load_stimuli(other)


def test_files_of_two_sets_of_one_size_are_refused(project, stimuli, tmp_path):
    """As after a kill between the two files: the tensors are of the new set, the manifest is of the old one."""
    other = Project(tmp_path)
    save_stimuli(other, stimuli)
    old = (other.stimuli / "manifest.parquet").read_bytes()
    save_stimuli(other, freeze_stimuli(project, load_settings(project.root).stimuli, 1))
    (other.stimuli / "manifest.parquet").write_bytes(old)
    with pytest.raises(DataError, match="manifest and tensors are of two sets"):
        load_stimuli(other)


@pytest.mark.parametrize("name", ["manifest.parquet", "stimuli.safetensors"])
def test_a_truncated_file_is_one_line(stimuli, tmp_path, name):
    project = Project(tmp_path)
    save_stimuli(project, stimuli)
    content = (project.stimuli / name).read_bytes()
    (project.stimuli / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match="outputs/stimuli"):
        load_stimuli(project)


def test_classes_that_were_edited_by_hand_are_checked_where_stimuli_are_chosen(sample_root, tmp_path):
    shutil.copytree(sample_root / "data", tmp_path / "data")
    path = tmp_path / "data" / "classes.yaml"
    path.write_text(path.read_text().replace('superclass: "dog"', "superclass: no"))
    with pytest.raises(DataError, match=r"classes.yaml: line \d+: superclass is False: write text, in quotes"):
        freeze_stimuli(Project(tmp_path), load_settings(sample_root).stimuli, 0)
