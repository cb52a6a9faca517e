"""The sample's people: their trials are the clicks behind the heatmaps, and the faults are those that were planted."""

import hashlib

import numpy as np
import pandas as pd
import pytest
from scipy.ndimage import gaussian_filter

from advalign.data.participants import read_images, read_trials
from advalign.data.sample import generate, people
from advalign.data.sample.generate import SampleSettings
from advalign.data.tfrecord import read_examples
from advalign.files import Project
from tests.conftest import REPOSITORY

TINY = SampleSettings(scale=0.01)
CARELESS = (*people.RANDOM_CLICKERS, people.INATTENTIVE, people.ON_A_PHONE, people.HASTY)
COMMITTED = Project(REPOSITORY)
pulled = pytest.mark.skipif(
    not ((REPOSITORY / "data.dvc").is_file() and (COMMITTED.data / "participants").is_dir()),
    reason="sample data not pulled",
)


@pytest.fixture(scope="module")
def scenes():
    return list(generate._singles(TINY, TINY.split("test")))


@pytest.fixture
def trials(project):
    return pd.concat(read_trials(project), ignore_index=True)


def honest(trials):
    """First trials of honest people, without clicks outside."""
    kept = trials[~trials["participant"].isin(CARELESS)].sort_values("row")
    kept = kept[~kept.duplicated(["image", "participant"])]
    return [
        (row.image, np.stack([row.x, row.y], 1)[(np.asarray(row.x) < 64) & (np.asarray(row.y) < 64)].astype(int))
        for row in kept.itertuples()
    ]


def test_images_are_those_of_the_shard(project, scenes):
    images = read_images(project)
    stored = [example["image"] for example in read_examples(project.data / "clickme" / "test-00000.tfrecords")]
    assert images["sha256"].tolist() == [hashlib.sha256(image).hexdigest() for image in stored]
    assert images["label"].tolist() == [scene.categories[0] for scene in scenes]
    assert images["image"].tolist() == [f"SAMPLE_test_{number:08d}.JPEG" for number in range(1, 145)]
    assert set(images["width"]) == set(images["height"]) == {64}


def test_ten_trials_of_six_clicks_are_an_images_clicks_in_their_order(trials, scenes):
    found = honest(trials)
    assert len(found) == 10 * len(scenes)
    for number, scene in enumerate(scenes, start=1):
        own = [clicks for image, clicks in found if image == people.name_of(number)]
        assert [len(clicks) for clicks in own] == [6] * 10
        drawn = [tuple(click) for click in scene.clicks]
        assert sorted(tuple(click) for clicks in own for click in clicks) == sorted(drawn)
        for clicks in own:
            place = iter(drawn)
            assert all(tuple(click) in place for click in clicks)


def test_the_map_of_honest_clicks_is_the_heatmap(trials, scenes):
    found = honest(trials)
    for number, scene in enumerate(scenes, start=1):
        counts = np.zeros((64, 64))
        for image, clicks in found:
            if image == people.name_of(number):
                np.add.at(counts, (clicks[:, 1], clicks[:, 0]), 1)
        blurred = gaussian_filter(counts, 3.2)
        assert blurred / blurred.max() == pytest.approx(scene.heatmap, abs=1e-5)


def test_forty_people_share_the_images_and_pass_their_catch_trials(trials):
    counts = trials[~trials["participant"].isin(CARELESS)].groupby("participant")
    assert len(counts) == 40
    assert counts.size().between(20, 55).all()  # 36 expected
    assert set(trials["participant"]) - set(CARELESS) == {f"participant-{number:02d}" for number in range(1, 41)}
    assert (counts["catch"].nunique() == 1).all()
    assert set(counts["catch"].first()) == {np.float32(0.95), np.float32(1.0)}


def test_planted_faults_are_counted(trials):
    counts = trials["participant"].value_counts()
    assert [counts[name] for name in CARELESS] == [48, 48, 12, 1, 1]
    assert len(trials) == 144 * 10 + 48 + 48 + 12 + 1 + 1 + 1
    assert set(trials["participant"][trials["catch"] < 0.94]) == {people.INATTENTIVE}
    assert trials["participant"][trials["mobile"]].tolist() == [people.ON_A_PHONE]
    assert trials["participant"][trials["x"].map(len) < 6].tolist() == [people.HASTY]
    repeated = trials[trials.duplicated(["image", "participant"], keep=False)].sort_values("row")
    assert len(repeated) == 2
    assert repeated["row"].iloc[1] == len(trials)  # the second one came last
    assert repeated["x"].iloc[0].tolist() != repeated["x"].iloc[1].tolist()
    outside = trials["x"].map(lambda x: int((x >= 64).sum())) + trials["y"].map(lambda y: int((y >= 64).sum()))
    assert outside[outside > 0].tolist() == [6]  # three clicks, each outside both ways
    assert trials["x"][outside.idxmax()].shape == (9,)


def test_rows_are_the_sources_and_every_image_has_enough_honest_people(trials):
    assert sorted(trials["row"]) == list(range(1, len(trials) + 1))
    assert trials.groupby("image")["row"].is_monotonic_increasing.all()
    assert trials["image"].is_monotonic_increasing
    assert (trials[~trials["participant"].isin(CARELESS)].groupby("image")["participant"].nunique() == 10).all()


@pulled
def test_the_committed_trials_are_what_the_generator_draws(tmp_path):
    settings = SampleSettings()
    split = settings.split("test")
    images = [(one, generate._jpeg(one.image, generate.IMAGE_QUALITY)) for one in generate._singles(settings, split)]
    drawn = Project(tmp_path)
    people.write_participants(drawn.participants, images, (settings.seed, split.stream))
    assert read_images(drawn).equals(read_images(COMMITTED))
    for one, two in zip(read_trials(drawn), read_trials(COMMITTED), strict=True):
        assert one.astype(str).equals(two.astype(str))
