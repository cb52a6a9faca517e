"""From the sample's raw trials back to its maps: cleaning finds what was planted, and nothing else changes a map."""

import shutil

import numpy as np
import pytest
import torch

from advalign.data.cleaning import CleaningTable, clean_image, robust_z, suspicious
from advalign.data.clickme import read_human_ceiling
from advalign.data.human_maps.blocks import of_cleaned
from advalign.data.human_maps.make import make_human_maps
from advalign.data.human_maps.maps import participant_maps
from advalign.data.participants import read_trials
from advalign.data.sample import generate, people
from advalign.data.sample.generate import SampleSettings
from advalign.data.tfrecord import read_examples
from advalign.files import Project
from advalign.settings import load_settings
from advalign.tensors.click_maps import Blur, click_maps
from advalign.tensors.heatmaps import min_max_scale
from advalign.tensors.ranks import rank_correlation
from tests.conftest import REPOSITORY

SETTINGS = load_settings(REPOSITORY).human_maps  # the sample's
TINY = SampleSettings(scale=0.01)


def cleaned(project, found=frozenset()):
    return [clean_image(trials, 64, 64, SETTINGS, found) for trials in read_trials(project)]


def maps_of(one):
    image = {"sha256": "", "width": 64, "height": 64}
    return participant_maps(of_cleaned(one, image), SETTINGS)


@pytest.fixture(scope="module")
def agreements(sample_root):
    """Of every trial that passed the other steps: participant, and agreement with the others of its image."""
    names, values = [], []
    for one in cleaned(Project(sample_root)):
        maps = maps_of(one).flatten(1)
        values += rank_correlation(maps, maps.sum(0) - maps).tolist()
        names += list(one.trials["participant"])
    return names, values


@pytest.fixture
def found(agreements):
    return {entry["participant"] for entry in suspicious(*agreements, SETTINGS)}


def test_participants_who_click_anywhere_are_found_and_nobody_else(agreements, found):
    assert found == set(people.RANDOM_CLICKERS)
    table = robust_z(*agreements).set_index("participant")["z"]
    assert (table[list(found)] < -10).all()
    assert (table.drop(list(found)) > -3).all()


def test_every_step_drops_what_was_planted(project, found):
    table = CleaningTable()
    for one in cleaned(project, found):
        table.add(one.image, one.steps)
    dropped = {entry["step"]: (entry["dropped"], entry["clicks_dropped"]) for entry in table.steps()}
    assert dropped == {
        "catch": (people.INATTENTIVE_TRIALS, 0),
        "mobile": (1, 0),
        "repeated": (people.REPEATED, 0),
        "outside": (people.OUTSIDE_TRIALS, people.OUTSIDE_CLICKS),
        "few clicks": (1, 0),
        "suspicious": (2 * people.RANDOM_TRIALS, 0),
        "few participants": (0, 0),
    }
    names = {entry["step"]: entry["participants"] for entry in table.steps()}
    assert names["catch"] == [people.INATTENTIVE]
    assert names["mobile"] == [people.ON_A_PHONE]
    assert names["few clicks"] == [people.HASTY]
    assert set(names["suspicious"]) == set(people.RANDOM_CLICKERS)
    assert {name.partition("-")[0] for name in (*names["repeated"], *names["outside"])} == {"participant"}
    assert table.steps()[-1]["trials_after"] == 10 * 144


def test_maps_of_cleaned_clicks_are_the_generators_and_the_shards(project, found):
    """The same numbers to a millionth; as JPEG the same bytes, but for a pixel that lies between two grey levels."""
    scenes = generate._singles(TINY, TINY.split("test"))
    stored = read_examples(project.data / "clickme" / "test-00000.tfrecords")
    same = 0
    for one, scene, record in zip(cleaned(project, found), scenes, stored, strict=True):
        made = min_max_scale(maps_of(one).mean(0, keepdim=True))[0].numpy()
        assert np.abs(made - scene.heatmap).max() < 2e-6
        same += generate._jpeg(np.round(made * 255).astype(np.uint8), generate.MAP_QUALITY) == record["heatmap"]
    assert same >= 142


def test_the_stage_finds_the_same_and_its_ceiling_is_the_generators(project, tmp_path):
    shutil.copytree(project.data, tmp_path / "data")
    told, summary = make_human_maps(Project(tmp_path), SETTINGS, seed=0, workers=1)
    dropped = {entry["step"]: entry["dropped"] for entry in told["steps"]}
    assert list(dropped.values()) == [12, 1, 1, 1, 1, 96, 0]
    assert {entry["participant"] for entry in told["suspicious"]} == set(people.RANDOM_CLICKERS)
    assert (summary["images"], summary["participants"], summary["trials"]) == (144, 40, 1440)
    found = summary["measures"]["spearman"]["ceiling"]
    assert found["ci_low"] < read_human_ceiling(project) < found["ci_high"]
    assert found["ci_high"] - found["ci_low"] < 0.04


def test_without_cleaning_maps_are_others(project):
    scenes = generate._singles(TINY, TINY.split("test"))
    differs = []
    for trials, scene in zip(read_trials(project), scenes, strict=True):
        clicks = list(zip(trials["x"], trials["y"], strict=True))
        made = click_maps(clicks, (64, 64), 64, Blur("gaussian", 27, 3.2), (64, 64), (64, 64)).mean(0)
        differs.append((min_max_scale(made[None])[0] - torch.from_numpy(scene.heatmap)).abs().max().item() > 1 / 255)
    assert 60 < sum(differs) < 110  # 48 + 48 + 12 + 4 careless trials on 144 images
