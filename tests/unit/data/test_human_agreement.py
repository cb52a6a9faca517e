"""Ceilings and floors of single images, joined to the stimuli; a project without participants stays as it was."""

import hashlib
import shutil

import numpy as np
import pandas as pd
import pytest
import torch

from advalign.data.human_agreement import with_agreement
from advalign.data.human_maps.make import AGREEMENT
from advalign.data.participants import IMAGES, TRIALS
from advalign.data.results import write_table
from advalign.data.sets.stimuli import load_stimuli
from advalign.data.sets.stimuli_classes import StimulusClasses
from advalign.data.stimuli import freeze_stimuli, save_stimuli
from advalign.errors import DataError
from advalign.files import Project
from advalign.settings import load_settings
from tests.conftest import with_stimuli


def agreement(sha256, ceiling, corrected, floor, participants=10):
    """A table as stage `maps` writes it, further columns included."""
    return pd.DataFrame(
        {
            "image": [f"{number}.JPEG" for number in range(len(sha256))],
            "sha256": sha256,
            "participants": participants,
            "spearman_ceiling": ceiling,
            "spearman_corrected": corrected,
            "spearman_floor": floor,
            "auc_ceiling": 0.8,
        }
    )


def write(project, table):
    write_table(project.human_maps / AGREEMENT, table, "an identity")


def frozen(project):
    settings = load_settings(project.root)
    return freeze_stimuli(project, settings.stimuli, settings.seed)


@pytest.fixture
def project(sample_root, tmp_path):
    found = with_stimuli(sample_root, tmp_path / "project")
    shutil.rmtree(found.participants, ignore_errors=True)
    shutil.rmtree(found.human_maps, ignore_errors=True)
    return found


def with_people(project):
    """Stimuli of which all but the first two were seen by people, and trials that they come from."""
    shas = list(load_stimuli(project).manifest["sha256"])[2:]
    places = np.arange(len(shas))
    write(project, agreement(shas[::-1], 0.5 + places[::-1] / 1000, 0.6 + places[::-1] / 1000, 0.2))
    project.participants.mkdir()
    for name in (TRIALS, IMAGES):
        (project.participants / name).write_bytes(b"trials")
    return frozen(project)


def test_ceilings_and_floors_are_joined_by_the_image_and_nan_where_nobody_saw_it(project):
    manifest = with_people(project).manifest
    assert list(manifest)[-3:] == ["ceiling", "ceiling_corrected", "floor"]
    assert manifest.iloc[:2, -3:].isna().all().all()
    places = np.arange(len(manifest) - 2)
    np.testing.assert_array_equal(manifest["ceiling"][2:], 0.5 + places / 1000)
    np.testing.assert_array_equal(manifest["ceiling_corrected"][2:], 0.6 + places / 1000)
    np.testing.assert_array_equal(manifest["floor"][2:], 0.2)


def test_items_offer_them_by_position_and_rows_have_them(project):
    stimuli = with_people(project)
    items = stimuli.items(1, 5, seed=0)
    extras = items.extras
    np.testing.assert_allclose(extras["human_ceiling"].numpy(), [np.nan, 0.5, 0.501, 0.502], rtol=1e-12)
    count = len(stimuli) - 2
    span = 0.5 + (count - 1) / 2000 - 0.2  # of the whole set, not of these four
    torch.testing.assert_close(extras["human_span"], torch.full((4,), span).double())
    told = items.table[["human_ceiling", "human_ceiling_corrected", "human_floor"]]
    np.testing.assert_allclose(told.iloc[1:], [[0.5, 0.6, 0.2], [0.501, 0.601, 0.2], [0.502, 0.602, 0.2]])
    assert "human_span" not in items.table
    of_classes = StimulusClasses(stimuli.manifest, stimuli.pixels, stimuli.map_pixels).items(1, 5, seed=0)
    pd.testing.assert_frame_equal(of_classes.table[told.columns], told)


def test_a_project_without_participants_stays_as_it_was_to_the_byte(project):
    before = {path.name: path.read_bytes() for path in project.stimuli.iterdir()}
    stimuli = load_stimuli(project)
    content = hashlib.sha256()
    for tensor in (stimuli.pixels, stimuli.map_pixels, stimuli.labels):
        content.update(tensor.numpy().tobytes())
    assert stimuli.digest == content.hexdigest()
    assert set(stimuli.items(0, 5, seed=0).extras) == set(stimuli.offers)
    assert list(stimuli.items(0, 5, seed=0).table) == ["stimulus", "category", "superclass", "label"]
    for table in (agreement([], [], [], []), agreement(["f" * 64], [0.5], [0.6], [0.1])):  # nobody, and other images
        write(project, table)
        save_stimuli(project, frozen(project))
        assert {path.name: path.read_bytes() for path in project.stimuli.iterdir()} == before


def test_what_people_agree_on_is_part_of_the_sets_identity(project):
    without = load_stimuli(project).digest
    stimuli = with_people(project)
    save_stimuli(project, stimuli)
    loaded = load_stimuli(project)
    assert loaded.digest == stimuli.digest != without
    changed = stimuli.manifest.assign(floor=stimuli.manifest["floor"] + 1e-12)
    assert type(stimuli)(changed, stimuli.pixels, stimuli.map_pixels).digest != stimuli.digest
    reversed_nan = np.copysign(np.nan, -1.0)
    same = stimuli.manifest.assign(floor=stimuli.manifest["floor"].fillna(reversed_nan))
    assert type(stimuli)(same, stimuli.pixels, stimuli.map_pixels).digest == stimuli.digest


def test_other_trials_than_those_of_the_frozen_set_make_it_stale(project):
    stimuli = with_people(project)
    assert {project.participants / TRIALS, project.participants / IMAGES} < set(stimuli.reads(project))
    assert not stimuli.is_stale(project, None)
    (project.participants / TRIALS).write_bytes(b"other trials")
    assert stimuli.is_stale(project, None)


def test_an_image_under_two_names_has_the_ceiling_that_more_people_agreed_on(tmp_path):
    project = Project(tmp_path)
    write(project, agreement(["a", "a", "b"], [0.1, 0.5, 0.3], [0.2, 0.6, 0.4], [0.0, 0.1, 0.2], [5, 9, 7]))
    found = with_agreement(pd.DataFrame({"sha256": ["b", "a"]}), project)
    assert found.to_numpy().tolist() == [["b", 0.3, 0.4, 0.2], ["a", 0.5, 0.6, 0.1]]


def test_a_damaged_table_and_another_table_are_refused_in_a_line(tmp_path):
    project, manifest = Project(tmp_path), pd.DataFrame({"sha256": ["a"]})
    write(project, agreement(["a"], [0.5], [0.6], [0.1]).drop(columns="spearman_floor"))
    with pytest.raises(DataError, match=r"agreement.parquet lacks spearman_floor: make .* maps`$"):
        with_agreement(manifest, project)
    path = project.human_maps / AGREEMENT
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DataError, match=r"agreement.parquet is damaged.*make it again with `dvc repro -f maps`"):
        with_agreement(manifest, project)
