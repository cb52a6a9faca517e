"""Expectations on data/participants: honest trials pass; each fault fails the expectation that names it."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from advalign.data.classes import write_classes
from advalign.data.expectations import validate
from advalign.data.participants import IMAGES_SCHEMA, TRIALS_SCHEMA
from advalign.data.sample.generate import sample_classes
from advalign.errors import DataError
from advalign.files import Project
from advalign.settings import load_settings
from tests.conftest import REPOSITORY

WIDTH, HEIGHT = 40, 30


def honest():
    """200 trials of 20 participants on 10 images, and the images."""
    rng = np.random.default_rng(1)
    trials = [
        {
            "image": f"{image}.png", "participant": f"p{person}", "x": rng.uniform(0, WIDTH - 1, 10),
            "y": rng.uniform(0, HEIGHT - 1, 10), "catch": 1.0, "mobile": None, "row": 20 * image + person + 1,
        }
        for image in range(10) for person in range(20)
    ]  # fmt: skip
    images = [
        {"image": f"{k}.png", "sha256": f"{k:064x}", "width": WIDTH, "height": HEIGHT, "label": k - 1}
        for k in range(10)
    ]
    return trials, images


def checked(root, trials, images):
    project = Project(root)
    project.participants.mkdir(parents=True)
    (root / "params.yaml").write_text(yaml.safe_dump(yaml.safe_load((REPOSITORY / "params.yaml").read_text())))
    write_classes(project.data / "classes.yaml", sample_classes())
    pq.write_table(pa.Table.from_pylist(trials, TRIALS_SCHEMA), project.participants / "trials.parquet")
    if images is not None:
        pq.write_table(pa.Table.from_pylist(images, IMAGES_SCHEMA), project.participants / "images.parquet")
    return validate(project, load_settings(root), evaluations=True)


def test_honest_trials_pass_without_stimuli(tmp_path):
    found = checked(tmp_path, *honest())
    assert found.success, found.failures
    assert found.checked == {"trials": 11, "clicked": 8}


def each(trials, rows, **values):
    for row in rows:
        trials[row] |= values


FAULTS = {  # what is done to (trials, images) -> failing expectations and how many rows fail
    "a second table of the same rows": (lambda t, i: each(t, [3, 4], row=1), {("trials", "row"): 3}),
    "unpaired": (lambda t, i: each(t, [7], x=[1.0, 2.0], y=[1.0]), {("trials", "unpaired"): 1}),
    "not finite": (
        lambda t, i: each(t, [7], x=[1.0, np.nan], y=[np.inf, 2.0]),
        {("trials", "not_finite"): 1},
    ),
    "nameless": (lambda t, i: each(t, [2, 9], participant=""), {("trials", "nameless"): 2}),
    "endless": (lambda t, i: each(t, [5], x=[1.0] * 2001, y=[1.0] * 2001), {("trials", "clicks"): 1}),
    "percent": (lambda t, i: each(t, [5], catch=95.0), {("trials", "catch"): 1}),
    "another image size": (
        lambda t, i: [one.update(x=[2.0 * x for x in one["x"]]) for one in t],
        {("trials", "outside"): 1},
    ),
    "many without clicks": (lambda t, i: each(t, range(0, 200, 4), x=[], y=[]), {("trials", "empty"): 1}),
    "one participant for all": (lambda t, i: each(t, range(200), participant="p"), {("trials", "repeated"): 1}),
    "unknown image": (
        lambda t, i: i.pop(),
        {("clicked", "known"): 1, ("trials", "outside"): 1},
    ),
    "image without trials": (lambda t, i: [t.pop() for _ in range(20)], {("clicked", "trials"): 1}),
    "tiny image": (lambda t, i: i[3].update(width=7), {("clicked", "width"): 1}),
    "one image under two names": (lambda t, i: i[3].update(sha256=i[4]["sha256"]), {("clicked", "sha256"): 2}),
    "unknown class": (lambda t, i: i[3].update(label=36), {("clicked", "label"): 1}),
}


@pytest.mark.parametrize("kind", FAULTS)
def test_a_fault_is_found(tmp_path, kind):
    trials, images = honest()
    change, expected = FAULTS[kind]
    change(trials, images)
    found = checked(tmp_path, trials, images)
    failures = {(one.table, one.column): one.unexpected for one in found.failures}
    assert {key: count for key, count in failures.items() if key in expected} == expected
    assert kind in ("unknown image", "tiny image") or failures.keys() == expected.keys()


def test_a_failing_trial_is_named_by_its_row(tmp_path):
    trials, images = honest()
    trials[41]["participant"] = " "
    (failure,) = checked(tmp_path, trials, images).failures
    assert failure.rows == ({"row": 42, "nameless": 1},)
    assert failure.why == "nameless: whether the trial has no participant (wanted: at most 0)"


def test_trials_without_images_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"images.parquet is missing: import trials with"):
        checked(tmp_path, honest()[0], None)


def test_the_table_of_trials_by_hand():
    from advalign.data.suites_trials import trial_table

    trials = pd.DataFrame(
        {
            "image": "a", "participant": ["ann", "ann", None], "x": [[0, 50, 39.4], [], [np.nan, 1]],
            "y": [[0, 1, 29.4], [], [1, 1, 5]], "catch": [0.5, np.nan, 1], "mobile": None, "row": [4, 5, 9],
        }
    )  # fmt: skip
    found = trial_table(trials, WIDTH, HEIGHT)
    assert found["clicks"].tolist() == [3, 0, 2]
    assert found["outside"].tolist() == pytest.approx([1 / 3, 0, 1 / 2])
    for column, values in {"unpaired": [0, 0, 1], "not_finite": [0, 0, 1], "empty": [0, 1, 0]}.items():
        assert found[column].tolist() == values
    assert found[["nameless", "repeated"]].to_numpy().tolist() == [[0, 0], [0, 1], [1, 0]]
