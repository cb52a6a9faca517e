"""What is newest, where the clock ran backwards between two runs."""

import sqlite3

import pytest

from advalign.data.sets.stimuli import load_stimuli
from advalign.tracking.registry.audit import rows
from advalign.tracking.registry.promotion import promote, rollback
from advalign.tracking.results import Published
from advalign.tracking.store import SEQUENCE, open_store
from advalign.workflows.publish import publish_evaluation
from tests.registered import evaluate, make_project, publish, zoo_beside

pytestmark = pytest.mark.slow

NAME = "clock.baseline"


@pytest.fixture
def project(sample_root, tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return make_project(sample_root, tmp_path / "project")


def turn_back_the_clock(project, store, kind):
    """Let every run of a kind have started a day before the run that was made before it."""
    runs = sorted(store.all_runs(kind), key=lambda run: run.info.start_time)
    with sqlite3.connect(project.root / "mlflow.db") as opened:
        for number, run in enumerate(sorted(runs, key=lambda run: run.data.tags[SEQUENCE])):
            change = "update runs set start_time = ? where run_uuid = ?"
            opened.execute(change, (run.info.start_time - number * 86_400_000, run.info.run_id))


def published(project, store, pt):
    """The evaluation on disk is one with this tolerance, and is published."""
    summary = evaluate(project, NAME, pt=pt, aa=0.3, accuracy=0.8)
    publish_evaluation(project, store, summary, load_stimuli(project), Published())


def zoo(project, store):
    return zoo_beside(project, store, NAME)["pt"].round(9).tolist()


def test_the_zoo_is_what_was_published_last(project):
    store = open_store(project)
    publish(project, store, NAME, 1, pt=0.5, aa=0.3, accuracy=0.8)
    for pt in (0.6, 0.7):
        published(project, store, pt)
        turn_back_the_clock(project, store, "evaluate")
        assert zoo(project, store) == [pt]
    published(project, store, 0.5)  # what was there before lies on disk again
    assert zoo(project, store) == [0.5]
    assert len(store.all_runs("evaluate")) == 3


def test_runs_of_earlier_versions_count_as_older_and_publishing_tells_which_counts(project):
    store = open_store(project)
    publish(project, store, NAME, 1, pt=0.5, aa=0.3, accuracy=0.8)
    published(project, store, 0.6)
    turn_back_the_clock(project, store, "evaluate")
    for run in store.all_runs("evaluate"):
        store.client.delete_tag(run.info.run_id, SEQUENCE)
    assert zoo(project, store) == [0.5]  # by time, as there is nothing else
    published(project, store, 0.6)
    assert zoo(project, store) == [0.6]


def test_the_audit_lists_decisions_in_the_order_in_which_they_were_made(project):
    store = open_store(project)
    for seed in (1, 2):
        publish(project, store, NAME, seed, pt=0.5, aa=0.3, accuracy=0.8)
    promote(project, store, NAME, 1, force=True, reason="first")
    promote(project, store, NAME, 2, force=True, reason="second")
    rollback(project, store, NAME, reason="third")
    turn_back_the_clock(project, store, "promote")
    found = rows(store, NAME)
    assert [row["reason"] for row in found] == ["first", "second", "third"]
    assert [row["at"] for row in found] == sorted((row["at"] for row in found), reverse=True)
