"""What stage `maps` found of the participants reaches MLflow once, and whole."""

import json
import shutil
from pathlib import Path

import pytest

from advalign.data.human_maps.make import FILES, MEND
from advalign.files import Project
from advalign.seals import read_json, write_json
from advalign.tracking.database import DATABASE
from advalign.tracking.store import open_store
from advalign.workflows.people_run import TABLE
from advalign.workflows.publish import publish_all
from tests.registered import empty_store
from tests.unit.analysis.people_made_up import cleaning, write_maps


@pytest.fixture
def there(sample_root, tmp_path, monkeypatch):
    """A project with results of stage `maps` and an empty store."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    shutil.copytree(sample_root, tmp_path / "project")
    (tmp_path / "project" / DATABASE).write_bytes(empty_store())
    project = Project(tmp_path / "project")
    return project, write_maps(project)


def runs(project):
    return open_store(project).all_runs("maps")


def artifacts(project, run):
    client = open_store(project).client
    return {one.path for one in client.list_artifacts(run.info.run_id)}


def test_a_run_has_counts_measures_and_files(there, tmp_path):
    project, table = there
    published = publish_all(project, open_store(project))
    assert published.created == ["human maps"]
    (run,) = runs(project)
    metrics = run.data.metrics
    assert (metrics["images"], metrics["participants"], metrics["trials"], metrics["suspicious"]) == (144, 40, 1440, 2)
    assert metrics["above_floor"] == 142
    assert metrics["human_ceiling"] == pytest.approx(table["spearman_ceiling"].mean())
    assert (metrics["dropped.catch"], metrics["dropped.suspicious"]) == (12, 48)
    assert metrics["emd_floor"] == pytest.approx(table["emd_floor"].mean())
    assert (metrics["nss_upper_ci_low"], metrics["nss_upper_ci_high"]) == (0, 1)
    assert run.data.tags["settings.sha256"] == "0" * 64
    assert run.info.status == "FINISHED"
    assert artifacts(project, run) == {*FILES, TABLE}
    path = open_store(project).client.download_artifacts(run.info.run_id, TABLE, str(tmp_path))
    held = json.loads(Path(path).read_text())
    steps = cleaning()["steps"]
    assert held["columns"] == list(steps[0])
    assert held["data"][0][:4] == ["catch", 1600, 1588, 12]
    assert held["data"][1][held["columns"].index("participants")] == "clicks-anywhere-1"
    assert {"path": TABLE, "type": "table"} in json.loads(run.data.tags["mlflow.loggedArtifacts"])


def test_the_same_result_is_published_once_and_a_new_one_again(there):
    project, _ = there
    publish_all(project, open_store(project))
    again = publish_all(project, open_store(project))
    assert (again.created, again.present, again.mended) == ([], 1, [])
    told = read_json(project.human_maps / "summary.json", "")
    write_json(project.human_maps / "summary.json", told | {"human_ceiling": None})
    assert publish_all(project, open_store(project)).created == ["human maps"]
    newest, first = runs(project)
    assert "human_ceiling" not in newest.data.metrics  # unknown
    assert "human_ceiling" in first.data.metrics


def test_files_that_the_store_lost_are_put_back(there):
    project, _ = there
    publish_all(project, open_store(project))
    (run,) = runs(project)
    for path in (project.root / "mlartifacts").rglob("curve.json"):
        path.unlink()
    assert publish_all(project, open_store(project)).mended == ["human maps"]
    assert artifacts(project, run) == {*FILES, TABLE}


def test_without_participants_there_is_no_run(there):
    project, _ = there
    write_json(project.human_maps / "cleaning.json", {"steps": [], "suspicious": []})
    assert publish_all(project, open_store(project)).created == []
    assert runs(project) == []


@pytest.mark.parametrize("name", FILES)
def test_results_that_are_not_whole_are_left_out_and_said(there, name):
    project, _ = there
    path = project.human_maps / name
    content = path.read_bytes()
    path.unlink()
    published = publish_all(project, open_store(project))
    assert published.left_out == [f"{path} is missing: {MEND}"]
    path.write_bytes(content.replace(b"0.7", b"0.8", 1) if name == "curve.json" else content[: len(content) // 2])
    (left_out,) = publish_all(project, open_store(project)).left_out
    assert left_out.startswith(f"{path} is damaged") and left_out.endswith(MEND)
    assert runs(project) == []
