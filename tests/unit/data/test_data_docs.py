"""`advalign data validate` on a project with faults: JSON, Data Docs, and the run that logs them."""

import json
import shutil
import sys

import pandas as pd
import pytest
from mlflow.tracking import MlflowClient

from advalign.cli import main
from advalign.data import expectations
from advalign.data.expectations import validate
from advalign.data.results import write_table
from advalign.data.sets.stimuli import StimulusSet, load_stimuli
from advalign.data.stimuli import save_stimuli
from advalign.data.validated import Failure, Validation
from advalign.errors import InputError
from advalign.files import Project
from advalign.settings import load_settings
from advalign.workflows.validation_run import log_validation
from tests.conftest import with_stimuli

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def faulty(sample_root, tmp_path_factory):
    """A project whose 72 stimuli have a malformed wnid, and one model's evaluation of two of them."""
    project = with_stimuli(sample_root, tmp_path_factory.mktemp("faulty") / "project")
    stimuli = load_stimuli(project)
    save_stimuli(project, StimulusSet(stimuli.manifest.assign(wnid="n1"), stimuli.pixels, stimuli.map_pixels))
    table = project.evaluations / "fmn-fast" / "resnet18.parquet"
    table.parent.mkdir(parents=True)
    rows = pd.DataFrame({"model": "resnet18", "stimulus": stimuli.manifest["stimulus"][:2]})
    write_table(table, rows, "identity")
    return project


@pytest.fixture
def project(faulty, tmp_path):
    shutil.copytree(faulty.root, tmp_path / "project")
    return Project(tmp_path / "project")


def command(project, monkeypatch, *words):
    monkeypatch.chdir(project.root)
    monkeypatch.setattr(sys, "argv", ["advalign", "data", "validate", *words])
    with pytest.raises(SystemExit) as ended:
        main.run()
    return ended.value.code


def test_the_json_holds_every_failing_row(project, monkeypatch, capsys):
    assert command(project, monkeypatch, "--json") == 1
    found = json.loads(capsys.readouterr().out)
    (failure,) = [failure for failure in found["failures"] if failure["column"] == "wnid"]
    names = list(load_stimuli(project).manifest["stimulus"])
    assert failure["rows"] == [{"stimulus": name, "wnid": "n1"} for name in names]
    assert (failure["unexpected"], len(failure["examples"])) == (72, 5)
    (file,) = [row for failure in found["failures"] if failure["table"] == "evaluated" for row in failure["rows"][:1]][
        :1
    ]
    assert file["evaluation"] == "fmn-fast/resnet18"
    assert found["docs"] is None


def test_data_docs_name_suites_and_failing_rows_and_are_logged(project, monkeypatch, capsys):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    names = list(load_stimuli(project).manifest["stimulus"])
    docs = project.root / "docs"
    for _ in range(2):  # the second replaces the first
        assert command(project, monkeypatch, "--docs", "docs", "--log") == 1
        out = capsys.readouterr().out
        assert "+ 67 more" in out
        assert f"Data Docs: {docs / 'index.html'}" in out
    assert {path.name for path in docs.iterdir()} == {"index.html", "static", "expectations", "validations"}
    index = (docs / "index.html").read_text()
    for suite in ("manifest", "superclasses", "maps", "labels", "evaluations", "evaluated"):
        (page,) = (docs / "validations" / suite).rglob("*.html")
        assert f'<a href="{page.relative_to(docs).as_posix()}">{suite}</a>' in index.replace("%3A", ":")
    assert names[0] in index
    assert "+ 67 more" in index
    (page,) = (docs / "validations" / "manifest").rglob("*.html")
    assert sum(name in page.read_text() for name in names) >= 5
    assert not [path for path in project.root.iterdir() if path.name.startswith(".docs")]
    client = MlflowClient(f"sqlite:///{project.root / 'mlflow.db'}")
    runs = client.search_runs([client.get_experiment_by_name("advalign/validate").experiment_id])
    assert len(runs) == 2
    for run in runs:
        assert run.info.status == "FINISHED"
        metrics = run.data.metrics
        assert (metrics["success"], metrics["manifest.failed"], metrics["manifest.failing_rows"]) == (0, 1, 72)
        assert (metrics["maps.failed"], metrics["evaluated.failed"]) == (0, 3)
        assert len(run.data.tags["settings.sha256"]) == 64
        held = {item.path for item in client.list_artifacts(run.info.run_id)}
        assert held == {"data_docs", "validation.json"}


def test_a_log_without_docs_is_the_json_alone(project, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    rows = ({"stimulus": "a", "range": 0.0},)
    found = Validation({"maps": 6}, (Failure("maps", "expect_x", "range", "it is flat", 1, ("a 0",), rows),))
    run_id = log_validation(project, load_settings(project.root), found)
    client = MlflowClient(f"sqlite:///{project.root / 'mlflow.db'}")
    assert [item.path for item in client.list_artifacts(run_id)] == ["validation.json"]
    kept = json.loads((project.root / "mlartifacts" / run_id / "artifacts" / "validation.json").read_text())
    assert kept["failures"][0]["rows"] == list(rows)


@pytest.mark.parametrize("held", ["notes.txt", "index.html"])
def test_a_folder_with_something_else_is_left_alone(project, monkeypatch, capsys, held):
    docs = project.root / "docs"
    docs.mkdir()
    (docs / held).write_text("mine")
    assert command(project, monkeypatch, "--docs", "docs") == 2
    assert capsys.readouterr().err.startswith("advalign: error: docs is not empty and holds no Data Docs")
    assert [(path.name, path.read_text()) for path in docs.iterdir()] == [(held, "mine")]
    with pytest.raises(InputError, match="is a file"):
        validate(project, load_settings(project.root), docs=docs / held)


def test_a_build_that_dies_leaves_nothing(project, monkeypatch):
    def die(*_):
        raise KeyboardInterrupt

    before = sorted(path.name for path in project.root.iterdir())
    monkeypatch.setattr(expectations, "_summary", die)
    with pytest.raises(KeyboardInterrupt):
        validate(project, load_settings(project.root), docs=project.root / "docs")
    assert sorted(path.name for path in project.root.iterdir()) == before
