"""Publishing to the team's server: many runs, two at once, and a server that is not there or does not know us."""

import json
import os
import sys

import pytest

from advalign.cli import main
from advalign.errors import printable
from advalign.files import Project
from advalign.tracking.store import open_store
from advalign.workflows.publish import publish_all
from tests.team.conftest import PROTOCOL, evaluation_as
from tests.team.processes import advalign, free_port

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("team")]

RUNS = 350 if "ADVALIGN_SOAK" in os.environ else 40  # 350 take a minute or two


def make_many(project: Project, prefix: str, count: int) -> dict[str, float]:
    """Copies of the small evaluation under other names, each with a tolerance of its own; name -> tolerance."""
    expected = {f"{prefix}{number:03d}": number / 7 for number in range(count)}
    for name, tolerance in expected.items():
        evaluation_as(project, name, tolerance)
    return expected


def test_hundreds_of_runs_are_published_once(root, store):
    project = Project(root)
    expected = make_many(project, "many", RUNS)
    first = publish_all(project, store)
    evaluations = [what for what in first.created if what.startswith("evaluation many")]
    assert len(evaluations) == RUNS

    found = [run for run in store.all_runs("evaluate") if run.data.tags["advalign.model"].startswith("many")]
    tolerances = {run.data.tags["advalign.model"]: run.data.metrics["pt"] for run in found}
    assert len(found) == RUNS
    assert tolerances == pytest.approx(expected)
    assert {run.info.status for run in found} == {"FINISHED"}

    again = publish_all(project, store)
    assert again.created == []
    assert again.present == len(first.created) + first.present


def test_two_at_once_publish_everything_once(root, member):
    make_many(Project(root), "pair", 6)
    both = [advalign(root, member, "publish", "--json") for _ in range(2)]
    assert [process.wait() for process in both] == [0, 0], [process.errors() for process in both]
    created = [what for process in both for what in json.loads(process.printed())["created"] if "pair" in what]
    assert sorted(created) == [f"evaluation pair{number:03d} ({PROTOCOL})" for number in range(6)]
    runs = open_store(Project(root)).all_runs("evaluate")
    names = sorted(run.data.tags["advalign.model"] for run in runs if run.data.tags["advalign.model"] >= "pair")
    assert [name for name in names if name.startswith("pair")] == [f"pair{number:03d}" for number in range(6)]


def refused(root, monkeypatch, capsys, *words) -> str:
    """The one line with which a command ends that cannot use the store."""
    monkeypatch.chdir(root)
    monkeypatch.setattr(sys, "argv", ["advalign", *words])
    with pytest.raises(SystemExit) as end:
        main.run()
    printed = capsys.readouterr()
    assert end.value.code == 2
    assert printed.out == ""
    return printed.err.strip()


@pytest.mark.timeout(120, func_only=True)  # MLflow alone would ask again for minutes
def test_a_wrong_password_is_one_line(root, member, monkeypatch, capsys):
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "babbage-1791")
    line = refused(root, monkeypatch, capsys, "publish")
    assert line == (
        f"advalign: error: tracking server {member['MLFLOW_TRACKING_URI']} refuses this user or password: check "
        "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
    )


@pytest.mark.timeout(120, func_only=True)
@pytest.mark.parametrize("words", [("publish", "--all"), ("train", "baseline", "--epochs", "2")])
def test_a_server_that_is_not_there_is_one_line(root, monkeypatch, capsys, words):
    uri = f"http://ada:secret@127.0.0.1:{free_port()}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    line = refused(root, monkeypatch, capsys, *words)
    assert "secret" not in line
    assert line == (
        f"advalign: error: tracking server {printable(uri)} does not answer: start it, or unset MLFLOW_TRACKING_URI to "
        "use the project's own mlflow.db"
    )
    assert list((root / "outputs" / "resume").glob("*")) == []  # no epoch was trained
