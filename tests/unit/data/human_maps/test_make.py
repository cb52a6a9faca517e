"""outputs/maps of small tables of trials: what is in them, and that it depends on nothing but trials and settings."""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from populations import SIDE, write_participants

from advalign.data.human_maps import blocks
from advalign.data.human_maps.blocks import ImageTrials, in_blocks, load_block, save_block
from advalign.data.human_maps.make import make_human_maps
from advalign.data.human_maps.summary import COLUMNS
from advalign.errors import DataError
from advalign.files import Project
from advalign.seals import read_json
from advalign.settings import HumanMapSettings

VALUES = {"resize": SIDE, "crop": 1.0, "side": SIDE, "window": 13, "sigma": 1.6, "min_clicks": 2, "min_subjects": 5}
SETTINGS = HumanMapSettings.model_validate(VALUES)
FILES = ("agreement.parquet", "cleaning.json", "curve.json", "summary.json")


def project_with(folder, **options):
    project = Project(folder)
    write_participants(project, rng=np.random.default_rng(0), **options)
    return project


def read(project):
    return {name: (project.human_maps / name).read_bytes() for name in FILES}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    project = project_with(tmp_path_factory.mktemp("made"), images=70, careless=("odd", "strange"))
    cleaning, summary = make_human_maps(project, SETTINGS, 0, workers=1)
    return project, cleaning, summary


def test_the_files_and_what_they_hold(made):
    project, cleaning, summary = made
    assert sorted(path.name for path in project.human_maps.iterdir()) == sorted(FILES)
    table = pd.read_parquet(project.human_maps / "agreement.parquet")
    assert tuple(table) == COLUMNS
    assert table["image"].tolist() == [f"{number:03d}.JPEG" for number in range(70)]
    assert not table.isna().any().any()
    assert set(table["participants"]) == {10}
    assert (table["clicks"] == 80).all()
    assert summary["human_ceiling"] == pytest.approx(table["spearman_ceiling"].mean())
    assert summary["measures"]["emd"]["floor"]["mean"] == pytest.approx(table["emd_floor"].mean())
    spread = summary["measures"]["spearman"]["ceiling"]
    error = table["spearman_ceiling"].std() / 70**0.5
    assert spread["ci_high"] - spread["ci_low"] == pytest.approx(2 * 1.96 * error, rel=0.15)
    assert (summary["images"], summary["participants"], summary["trials"]) == (70, 14, 700)
    assert summary["above_floor"] == (table["spearman_corrected"] > table["spearman_floor"]).sum() >= 68
    assert read_json(project.human_maps / "cleaning.json", "") == cleaning


def test_people_agree_more_than_chance_by_every_measure(made):
    told = {
        measure: {kind: one["mean"] for kind, one in kinds.items()} for measure, kinds in made[2]["measures"].items()
    }
    for measure, chance in (("spearman", 0.0), ("auc", 0.5), ("nss", 0.0)):
        assert told[measure]["ceiling"] > told[measure]["floor"] + 0.1
        assert told[measure]["floor"] == pytest.approx(chance, abs=0.1)
        assert told[measure]["lower"] < told[measure]["upper"]
    assert told["emd"]["ceiling"] < told["emd"]["floor"]
    assert told["spearman"]["ceiling"] < told["spearman"]["corrected"] < 1


@pytest.mark.slow
def test_careless_participants_are_listed_and_dropped_on_request(made, tmp_path):
    _, cleaning, summary = made
    assert sorted(one["participant"] for one in cleaning["suspicious"]) == ["odd", "strange"]
    assert not any(one["dropped"] for one in cleaning["suspicious"])
    strict = HumanMapSettings.model_validate({**VALUES, "drop_outliers": True})
    other = project_with(tmp_path, images=70, careless=("odd", "strange"))
    cleaning, cleaned = make_human_maps(other, strict, 0, workers=1)
    dropped = next(step for step in cleaning["steps"] if step["step"] == "suspicious")
    assert (dropped["dropped"], sorted(dropped["participants"])) == (140, ["odd", "strange"])
    assert all(one["dropped"] for one in cleaning["suspicious"])
    assert (cleaned["participants"], cleaned["trials"]) == (12, 560)
    assert cleaned["settings_sha256"] != summary["settings_sha256"]


@pytest.mark.slow
def test_processes_make_no_difference(made, tmp_path):
    other = project_with(tmp_path, images=70, careless=("odd", "strange"))
    make_human_maps(other, SETTINGS, 0, workers=2)
    assert read(other) == read(made[0])


def test_without_participants_there_is_an_empty_table(tmp_path):
    project = Project(tmp_path)
    cleaning, summary = make_human_maps(project, SETTINGS, 0)
    assert cleaning == {"steps": [], "suspicious": []}
    assert (summary["images"], summary["participants"], summary["trials"]) == (0, 0, 0)
    assert read_json(project.human_maps / "summary.json", "")["human_ceiling"] is None
    table = pd.read_parquet(project.human_maps / "agreement.parquet")
    assert (tuple(table), len(table)) == (COLUMNS, 0)
    assert table["spearman_ceiling"].dtype == np.float64
    assert read_json(project.human_maps / "curve.json", "") == {}


def test_where_nothing_is_left_the_error_says_which_step_took_it(tmp_path):
    project = project_with(tmp_path, images=3)
    demanding = HumanMapSettings.model_validate({**VALUES, "min_subjects": 9})
    with pytest.raises(DataError, match=r"no image has 9 participants .*few participants: 24.*human_maps"):
        make_human_maps(project, demanding, 0, workers=1)
    assert not list(project.human_maps.glob(".blocks"))


def test_one_image_alone_has_no_floor(tmp_path):
    project = project_with(tmp_path, images=1)
    summary = make_human_maps(project, SETTINGS, 0, workers=1)[1]
    assert summary["measures"]["spearman"]["floor"]["mean"] != summary["measures"]["spearman"]["floor"]["mean"]  # NaN
    assert read_json(project.human_maps / "summary.json", "")["measures"]["auc"]["floor"]["mean"] is None
    assert summary["human_ceiling"] > 0


@pytest.mark.parametrize("count", [1, 2, 64, 65, 66, 127, 128, 129, 130])
def test_no_block_has_a_single_one_of_many_images(count):
    sizes = [len(block) for block in in_blocks(iter(range(count)))]
    assert sum(sizes) == count
    assert min(sizes) > 1 or count == 1
    assert set(sizes[:-1]) <= {blocks.IMAGES_PER_BLOCK}
    assert sizes[-1] <= blocks.IMAGES_PER_BLOCK + 1


def test_a_block_on_disk_is_the_block(tmp_path):
    rng = np.random.default_rng(0)
    images = [
        ImageTrials(
            f"{number}.JPEG", f"{number:064x}", (30 + number, 20), tuple(f"ü{who}" for who in range(count)),
            tuple((rng.random(n).astype(np.float32), rng.random(n).astype(np.float32)) for n in range(count)),
        )
        for number, count in enumerate((3, 5))
    ]  # fmt: skip
    save_block(tmp_path / "block.npz", images)
    for image, found in zip(images, load_block(tmp_path / "block.npz"), strict=True):
        assert (found.image, found.sha256, found.size) == (image.image, image.sha256, image.size)
        assert found.participants == image.participants
        for own, other in zip(image.clicks, found.clicks, strict=True):
            assert [part.tolist() for part in own] == [part.tolist() for part in other]
