"""Expectations on rows of data/cifar: sound rows pass; each fault fails the expectation that names it."""

import numpy as np
import pandas as pd
import pytest

from advalign.data.cifar import read_split
from advalign.data.expectations import check_tables
from advalign.data.results import write_table
from advalign.data.sample.cifar_world import WorldSettings, generate_world, world_classes
from advalign.data.sets.cifar import CifarImages
from advalign.data.suites_measured import measured_tables
from advalign.files import Project

CLASSES = world_classes()


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    root = tmp_path_factory.mktemp("measured")
    generate_world(root / "data", WorldSettings(scale=0.02))
    return Project(root)


def listing(project):
    split = read_split(project.data / "cifar" / "test.parquet", len(CLASSES))
    return CifarImages(split, project.digests).listing().assign(model="m")


def sound(project):
    """Rows of an attack on either norm and of predictions, and how many images there are."""
    table = listing(project)
    count = len(table)
    status = np.array(["ok", "attack_failed", "misclassified_clean", "ok"])[np.arange(count) % 4]
    wrong = (table["label"] + 1) % 10
    hit = status == "ok"
    attacked = table.assign(
        status=status,
        clean_prediction=table["label"].where(status != "misclassified_clean", wrong),
        queries=21,
    )
    right = np.arange(count) % 3 > 0
    return {
        "pgd-cifar": attacked.assign(norm_linf=np.where(hit, 8 / 255, np.nan)),
        "fmn-cifar": attacked.assign(
            norm_l2=np.where(hit, 0.4, np.nan),
            second_start=np.where(hit, np.array([1, 1.2, np.inf])[np.arange(count) % 3], np.nan),
        ),
        "accuracy": table.assign(
            prediction=table["label"].where(right, wrong), probability_top=0.6,
            probability_label=np.where(right, 0.6, 0.3),
        ),
        "accuracy.first5": table.assign(
            prediction=table["label"], probability_top=0.6, probability_label=0.6
        ).head(5),
    }  # fmt: skip


def failed(project, tmp_path, rows):
    """(table, column) of every expectation that does not hold."""
    there = Project(tmp_path)
    (tmp_path / "data").symlink_to(project.data)
    for protocol, table in rows.items():
        (there.evaluations / protocol).mkdir(parents=True)
        write_table(there.evaluations / protocol / "m.parquet", table, "0")
    found = check_tables(measured_tables(there, CLASSES))
    return {(one.table, one.column) for one in found.failures}, found


def test_sound_rows_pass(project, tmp_path):
    failures, found = failed(project, tmp_path, sound(project))
    assert not failures, found.failures
    assert found.checked == {"measured": 1, "attacked": 12, "predicted": 7}


def test_rows_of_other_image_sets_are_not_looked_at(project, tmp_path):
    there = Project(tmp_path)
    assert measured_tables(there, CLASSES) == {}
    (there.evaluations / "fmn-fast").mkdir(parents=True)
    write_table(there.evaluations / "fmn-fast" / "m.parquet", pd.DataFrame({"stimulus": ["a"], "status": ["ok"]}), "0")
    assert measured_tables(there, CLASSES) == {}


FAULTS = {
    "a label of another image": ("pgd-cifar", "label", 0, 9, ("attacked", "label, label_in_split")),
    "an image twice": ("accuracy", "image", 0, 1, ("predicted", "row")),
    "an image of no split": ("accuracy", "image", 0, 99_999, ("predicted", "label_in_split")),
    "an unknown status": ("pgd-cifar", "status", 1, "robust", ("attacked", "status")),
    "a norm where nothing was found": ("pgd-cifar", "norm_linf", 1, 0.01, ("attacked", "norm")),
    "no norm where something was found": ("fmn-cifar", "norm_l2", 0, np.nan, ("attacked", "norm")),
    "a norm beyond the box": ("pgd-cifar", "norm_linf", 0, 1.5, ("attacked", "norm_linf")),
    "a norm of zero": ("fmn-cifar", "norm_l2", 0, 0.0, ("attacked", "norm_l2")),
    "a wrong image that was attacked": ("pgd-cifar", "clean_prediction", 0, 5, ("attacked", "clean_prediction, label")),
    "a second start that is better than the best": ("fmn-cifar", "second_start", 0, 0.99, ("attacked", "second_start")),
    "no query": ("pgd-cifar", "queries", 0, 0, ("attacked", "queries")),
    "a class that is not there": ("accuracy", "prediction", 0, 10, ("predicted", "prediction")),
    "a top class that is unlikely": ("accuracy", "probability_top", 0, 0.05, ("predicted", "probability_top")),
    "a label that is likelier than the top class": ("accuracy", "probability_label", 0, 0.7, ("predicted", "lead")),
    "a right answer of less": ("accuracy", "probability_label", 1, 0.5, ("predicted", "lead_where_right")),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_is_found(project, tmp_path, fault):
    protocol, column, row, value, expected = FAULTS[fault]
    rows = sound(project)
    assert rows[protocol].loc[row, column] != value
    rows[protocol].loc[row, column] = value
    failures, _ = failed(project, tmp_path, rows)
    assert expected in failures


def test_a_row_that_is_missing_is_found(project, tmp_path):
    rows = sound(project)
    rows["accuracy.first5"] = rows["accuracy.first5"].head(4)
    assert failed(project, tmp_path, rows)[0] == {("measured", "images, images_wanted")}
