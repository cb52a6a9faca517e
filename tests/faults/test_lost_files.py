"""Artifacts that are deleted while the database still names them: found, and put back where they were."""

import hashlib
import json
import shutil
from collections import OrderedDict

import pytest

from advalign.files import Project
from advalign.names import Reference
from advalign.tracking.registry.promotion import promote
from advalign.tracking.registry.registered import fetch, resolve
from advalign.tracking.results import Published
from advalign.tracking.store import open_store
from advalign.tracking.transfer import carry_over, local_store
from advalign.workflows.publish import publish_all
from tests.pipeline.conftest import typed
from tests.registered import make_project, publish

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("lost-files")]

BASELINE, NAME = "walk.baseline", "walk.harmonized"
HAPPENS = ("MLmodel", "python_env.yaml", "conda.yaml")  # hold the time of logging, or nothing of ours


@pytest.fixture(scope="module")
def finished(sample_root, tmp_path_factory):
    """A project with two evaluated versions, one of them champion; never changed after this."""
    root = tmp_path_factory.mktemp("lost") / "project"
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        project = make_project(sample_root, root)
        store = open_store(project)
        publish(project, store, BASELINE, 1, pt=0.5, aa=0.3, accuracy=0.82)
        publish(project, store, NAME, 2, pt=0.5, aa=0.5, accuracy=0.81)
        assert promote(project, store, NAME, 1).outcome == "promoted"
    return root


@pytest.fixture
def root(finished, tmp_path, monkeypatch):
    """A copy of the finished project. A process of MLflow remembers where files of the first lie."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr("mlflow.tracking._tracking_service.utils._artifact_repos_cache", OrderedDict())
    return shutil.copytree(finished, tmp_path / "project")


def contents(folder) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file() and path.name not in HAPPENS
    }


def test_publish_puts_back_all_that_the_results_on_disk_hold(root):
    open_store(Project(root))  # its addresses follow the copy
    artifacts = root / "mlartifacts"
    before = contents(artifacts)
    kinds = {file.rpartition("/")[2] for file in before}
    assert {"card.json", "model.safetensors", "decision.json", f"{NAME}.parquet"} <= kinds
    shutil.rmtree(artifacts)
    done = typed(root, "publish", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["created"] == []
    assert sorted(found["mended"]) == sorted(
        [
            f"decision {NAME} version 1: promoted",
            *(f"{kind} {name}" for kind in ("run", "version") for name in (BASELINE, NAME)),
            *(f"evaluation {name} (fmn-fast)" for name in (BASELINE, NAME)),
        ]
    )
    assert contents(artifacts) == before
    judged = typed(root, "registry", "promote", BASELINE, "--to", "champion")  # reads the files of all evaluations
    assert (judged.returncode, "was not promoted: " in judged.stdout) == (1, True), judged.stderr
    again = typed(root, "publish")
    assert (again.returncode, "put back" in again.stdout) == (0, False)


@pytest.mark.parametrize("gone", [f"{NAME}.parquet", f"predictions/{NAME}.parquet", "stimuli.json"])
def test_one_lost_file_of_an_evaluation_is_enough(root, gone):
    store = open_store(Project(root))
    (run,) = store.find_runs("evaluate", {"advalign.model": NAME})
    file = Project(root).root / "mlartifacts" / run.info.run_id / "artifacts" / gone
    file.unlink()
    done = typed(root, "publish")
    assert f"put back the files of evaluation {NAME} (fmn-fast), which the store had lost" in done.stdout
    assert file.is_file()


def test_damaged_rows_are_not_put_back(root):
    (root / "outputs" / "evaluations" / "fmn-fast" / f"{NAME}.parquet").write_bytes(b"damaged")
    open_store(Project(root))
    shutil.rmtree(root / "mlartifacts")
    done = typed(root, "publish")
    assert done.returncode == 1
    assert f"{NAME}.parquet" in done.stderr
    assert f"evaluation {NAME}" not in done.stdout


def test_publish_all_puts_back_what_another_store_has_lost(root, tmp_path, monkeypatch):
    """The checkpoints are no longer on disk: only the project's own store has the files."""
    project = Project(root)
    open_store(project)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'team' / 'mlflow.db'}")
    target = open_store(project)
    first = Published()
    assert carry_over(project, local_store(project, target), target, first, lambda *_: None) == []
    shutil.rmtree(root / "outputs")
    ours = {path.name for path in (root / "mlartifacts").iterdir()}
    places = {one.info.artifact_uri for one in target.all_runs("evaluate")}
    version = resolve(target, Reference(NAME, version=1))
    lost = [target.client.get_logged_model(version.source.removeprefix("models:/")).artifact_location, *places]
    for place in lost:
        shutil.rmtree(place.removeprefix("file://"))
    again = Published()
    assert carry_over(project, local_store(project, target), target, again, lambda *_: None) == []
    assert again.created == []
    assert sorted(again.mended) == [f"evaluate run {BASELINE}", f"evaluate run {NAME}", f"{NAME} version 1"]
    assert fetch(version, tmp_path / "fetched", target).is_dir()
    assert ours <= {path.name for path in (root / "mlartifacts").iterdir()}


def test_a_lost_version_is_there_again_after_the_same_import(root):
    words = ("checkpoint", "import", "theirs.ckpt", "--name", "net", "--model", "test_resnet", "--size", "64")
    words += ("--license", "MIT", "--recipe", "robust")
    assert typed(root, "checkpoint", "export", NAME, "theirs.ckpt").returncode == 0
    assert typed(root, *words).returncode == 0
    shutil.rmtree(root / "mlartifacts")
    assert typed(root, *words).returncode == 0
    shutil.rmtree(root / "outputs" / "runs")
    done = typed(root, "checkpoint", "export", "models:/net@candidate", "again.ckpt")
    assert done.returncode == 0, done.stderr


def test_a_comparison_is_put_back(root):
    assert publish_all(Project(root), open_store(Project(root))).created == []
    compared = typed(root, "compare")
    assert compared.returncode == 0, compared.stderr
    assert "comparison" in json.loads(typed(root, "publish", "--json").stdout)["created"]
    store = open_store(Project(root))
    (run,) = store.all_runs("compare")
    shutil.rmtree(run.info.artifact_uri.removeprefix("file://"))
    assert json.loads(typed(root, "publish", "--json").stdout)["mended"] == ["comparison"]
    assert {one.path for one in store.client.list_artifacts(run.info.run_id)} >= {"report.html", "statistics.json"}
