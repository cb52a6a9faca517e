"""Expectations on response stores: sound ones pass; each fault fails the expectation that names it."""

import shutil

import h5py
import numpy as np
import pandas as pd
import pytest
import yaml

from advalign.data import responses
from advalign.data.classes import checked_classes, write_classes
from advalign.data.expectations import check_tables, validate
from advalign.data.hdf5 import sealed_hdf5
from advalign.data.response_writer import About, writing_responses
from advalign.data.responses import ResponseStore
from advalign.data.sample.generate import sample_classes
from advalign.data.suites_responses import response_tables, trial_suite
from advalign.errors import DataError
from advalign.files import Project
from advalign.settings import load_settings
from tests.conftest import REPOSITORY

IMAGES = pd.DataFrame({"id": ["a", "b", "c"], "sha256": ["1" * 64, "2" * 64, ""], "label": [4, -1, 0]})
UNITS = pd.DataFrame({"roi": ["V1", "V4", "V4"], "subject": ["s1", "s1", "s2"], "noise_ceiling": [1, np.nan, 0]})


@pytest.fixture
def project(tmp_path):
    """Two stores of trials and one of dissimilarities, of which one is in outputs/; no images, no stimuli."""
    project = Project(tmp_path)
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(yaml.safe_load((REPOSITORY / "params.yaml").read_text())))
    write_classes(project.data / "classes.yaml", sample_classes())
    write_trials(project.data / "responses" / "lab.h5")
    write_trials(project.root / "outputs" / "responses" / "lab.h5", level=5)
    with writing_responses(project.data / "responses" / "rdm.h5", About("simulated", "none"), IMAGES) as writer:
        writer.add_rdm(np.array([0.1, 0.2, 0.3]), "p2", "IT")
        writer.add_rdm(np.array([0.4, 0.5, 0.6]), "p1", "EVC")
        writer.add_rdm(np.array([0.4, 0.5, 0.7]), "p2", "IT")
    return project


def write_trials(path, level=0):
    """Units of s1 saw a, b, c and a again; the one of s2 saw b twice."""
    with writing_responses(path, About("measured", "none"), IMAGES, UNITS) as writer:
        writer.add_trials(np.array([0, 1, 2, 0]), level + np.arange(8.0).reshape(4, 2), np.array([0, 0, 2, 0]), 0)
        writer.add_trials(np.array([1, 1]), level + np.array([[0.5], [0.6]]), "train", 1, first_unit=2)


def checked(project, **more):
    return validate(project, load_settings(project.root), **more)


def test_sound_stores_pass_without_stimuli(project):
    found = checked(project, evaluations=True)
    assert found.success, found.failures
    assert found.checked == {"response_images": 3, "response_units": 5, "response_trials": 5}


def test_the_stage_looks_at_data_alone(project):
    path = project.root / "outputs" / "responses" / "lab.h5"
    path.write_bytes(path.read_bytes()[:-1])
    assert checked(project).success
    with pytest.raises(DataError, match=f"{path}"):
        checked(project, evaluations=True)


def test_without_stores_there_are_no_tables_and_stimuli_are_needed(project):
    shutil.rmtree(project.data / "responses")
    assert response_tables([], checked_classes(project.data / "classes.yaml")) == {}
    with pytest.raises(DataError, match="stimuli"):
        checked(project)


@pytest.mark.parametrize("at_once", [1, 64 << 20])
def test_tables_by_hand(project, monkeypatch, at_once):
    monkeypatch.setattr(responses, "AT_ONCE", at_once)
    paths = responses.response_files(project)
    tables = response_tables(paths, checked_classes(project.data / "classes.yaml"))
    units, trials = tables["response_units"][0], tables["response_trials"][0]
    images = tables["response_images"][0]["image"].tolist()
    assert images == [f"{store}/{name}" for store in ("data/lab", "data/rdm", "outputs/lab") for name in "abc"]
    assert units["row"].tolist() == [
        *(f"data/lab/{number}" for number in range(3)), *(f"data/rdm/{number}" for number in range(3)),
        *(f"outputs/lab/{number}" for number in range(3)),
    ]  # fmt: skip
    assert units["roi"].tolist() == ["V1", "V4", "V4", "IT", "EVC", "IT", "V1", "V4", "V4"]
    assert units["missing"].tolist() == pytest.approx([1 / 3, 1 / 3, 2 / 3, 0, 0, 0, 1 / 3, 1 / 3, 2 / 3])
    assert units["spread"].tolist() == pytest.approx([6, 6, 0.1, 0.2, 0.2, 0.3, 6, 6, 0.1], abs=1e-6)
    assert trials["responding"].tolist() == [2, 2, 2, 2, 1, 1] * 2
    assert trials["images"].tolist() == [3] * 12 and trials["repeat"].tolist() == [0, 0, 0, 1, 0, 1] * 2


def put(name, place, value):
    """What edits a value of lab.h5."""
    return lambda file: file[name].__setitem__(place, value)


FAULTS = {
    "a digest of another length": (put("images/sha256", 1, "ab"), ("response_images", "file_sha256", 1)),
    "a digest in capitals": (put("images/sha256", 0, "A" * 64), ("response_images", "file_sha256", 1)),
    "an unknown class": (put("images/label", 0, 99), ("response_images", "label", 1)),
    "a unit of no area": (put("units/roi", 0, ""), ("response_units", "roi", 1)),
    "a ceiling in per cent": (put("units/noise_ceiling", slice(0, 2), 40), ("response_units", "noise_ceiling", 2)),
    "a ceiling below zero": (put("units/noise_ceiling", 2, -0.1), ("response_units", "noise_ceiling", 1)),
    "a unit that never responds": (
        put("betas", (slice(None), 1), np.nan), ("response_units", "missing", 1),
    ),
    "an infinite response": (put("betas", (3, 0), np.inf), ("response_units", "infinite", 1)),
    "a constant unit": (put("betas", (slice(0, 4), 0), 0.1), ("response_units", "spread", 1)),
    "a trial without responses": (put("betas", (4, 2), np.nan), ("response_trials", "responding", 1)),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_is_found_and_nothing_else(project, fault):
    edit, expected = FAULTS[fault]
    path = project.data / "responses" / "lab.h5"
    with sealed_hdf5(path, "r+") as file:
        edit(file)
    failures = {(one.table, one.column, one.unexpected): one for one in checked(project).failures}
    also = {("response_units", "spread", 1)} if fault == "a trial without responses" else set()  # one response is left
    assert failures.keys() == {expected} | also
    assert all(str(next(iter(row.values()))).startswith("data/lab/") for row in failures[expected].rows)


def test_dissimilarities_that_are_all_the_same_or_missing_are_found(project):
    with sealed_hdf5(project.data / "responses" / "rdm.h5", "r+") as file:
        file["rdms/values"][1] = 0.5
        file["rdms/values"][2] = np.nan
    rows = {(one.column, row["row"]) for one in checked(project).failures for row in one.rows}
    assert rows == {("spread", "data/rdm/1"), ("missing", "data/rdm/2")}


@pytest.mark.parametrize(
    ("column", "value", "told"),
    [
        ("image", -1, "image"),
        ("image", 3, "images, image"),
        ("repeat", -1, "repeat"),
        ("split", 3, "split"),
    ],
)
def test_what_opening_refuses_is_expected_too(project, column, value, told):
    path = project.data / "responses" / "lab.h5"
    table = response_tables([path], checked_classes(project.data / "classes.yaml"))["response_trials"][0]
    table.loc[5, column] = value
    (failure,) = check_tables({"response_trials": (table, trial_suite)}).failures
    assert (failure.column, failure.rows[0]["row"]) == (told, "data/lab/5")
    with sealed_hdf5(path, "r+") as file:
        file[f"trials/{column}"][5] = value
    with pytest.raises(DataError, match=r"out of range|below 0"):
        ResponseStore.open(path)


def test_a_damaged_store_is_refused(project):
    with h5py.File(project.data / "responses" / "lab.h5", "r+") as file:
        file["betas"][0, 0] = 9
    with pytest.raises(DataError, match=r"lab\.h5 is damaged"):
        checked(project)
