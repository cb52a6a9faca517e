"""Predictors in the registry: published once, loaded back to the same numbers, mended, and taken for no classifier."""

import io
import shutil
from pathlib import Path

import mlflow
import numpy as np
import pytest
from PIL import Image

from advalign.errors import DataError, InputError
from advalign.files import Project, sha256
from advalign.models.predictors import PREDICTOR, load_predictor, predictor_folder, prepared
from advalign.names import Reference
from advalign.tracking.database import database_uri
from advalign.tracking.registry.packaging import SERVED_PREDICTOR
from advalign.tracking.registry.predictors import find_predictor
from advalign.tracking.registry.registered import PREDICTOR_TAG, fetch, model_id_of, resolve, versions_of
from advalign.tracking.results import Published
from advalign.tracking.store import open_store
from advalign.tracking.transfer import carry_over
from advalign.workflows.predictors import fit_predictor
from advalign.workflows.publish import publish_all
from advalign.workflows.publish_predictors import publish_predictor
from tests.conftest import REPOSITORY
from tests.pipeline.conftest import typed
from tests.unit.workflows.predictor_world import NET, UNITS, linear_world

pytest.importorskip("himalaya")
NAME = "predictor.it"


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """With one predictor, and no checkpoint that would be published beside it."""
    root = tmp_path_factory.mktemp("registered")
    found = linear_world(root)[0]
    fit_predictor(found, "exact", NET, "IT", "it", resamples=100)
    shutil.rmtree(found.checkpoints)
    for name in ("gates.yaml", "zoo.yaml"):
        shutil.copy(REPOSITORY / "registry" / name, root / "registry")
    return Project(root)


@pytest.fixture(scope="module")
def store(project):
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        before = mlflow.get_tracking_uri()
        yield open_store(project)
        mlflow.set_tracking_uri(before)


@pytest.fixture(scope="module")
def version(project, store):
    done = publish_all(project, store)
    assert done.created == [f"run {NAME}", f"version {NAME}"]
    assert not done.left_out
    (found,) = versions_of(store, NAME)
    return found


def png(seed):
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (40, 50, 3), np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def test_a_second_publishing_changes_nothing(project, store, version):
    done = publish_all(project, store)
    assert (done.created, done.mended, done.present) == ([], [], 2)
    assert [one.version for one in versions_of(store, NAME)] == [version.version]


def test_it_is_a_version_with_its_lineage(project, store, version):
    folder = predictor_folder(project, "it")
    assert version.tags[PREDICTOR_TAG] == sha256(folder / PREDICTOR)
    assert version.tags["advalign.provenance"] == "simulated"
    assert "`exact`, simulated" in version.description
    run = store.client.get_run(version.run_id)
    card = load_predictor(folder).card
    assert run.data.metrics["explained"] == pytest.approx(card.explained)
    assert run.data.params["roi"] == "IT"
    assert find_predictor(store, "it", sha256(folder / PREDICTOR)).version == version.version
    assert find_predictor(store, "it", "0" * 64) is None


def test_a_version_that_is_loaded_back_predicts_the_same(project, version):
    loaded = mlflow.pyfunc.load_model(f"models:/{NAME}@candidate")
    local = load_predictor(predictor_folder(project, "it"))
    files = [png(0), png(1)]
    opens = [lambda file=file: Image.open(io.BytesIO(file)) for file in files]
    expected = local.responses(next(prepared(local.classifier, opens)))
    found = loaded.predict(np.array(files, dtype=object))
    assert found.shape == (2, UNITS) and found.dtype == np.float32
    np.testing.assert_array_equal(found, expected)
    assert np.abs(expected[0] - expected[1]).max() > 0.1
    with pytest.raises(InputError, match=r"images\[0\] is damaged or truncated"):
        loaded.predict(np.array([files[0][:200]], dtype=object))


def test_lost_files_are_put_back(project, store, version):
    place = Path(store.client.get_logged_model(model_id_of(version)).artifact_location.removeprefix("file://"))
    (model,) = place.glob("artifacts/*/map.safetensors")
    model.unlink()
    (card,) = (project.root / "mlartifacts").glob(f"{version.run_id}/artifacts/{PREDICTOR}")
    card.unlink()
    done = Published()
    publish_predictor(project, store, predictor_folder(project, "it"), done)
    assert done.mended == [f"run {NAME}", f"version {NAME}"]
    assert model.is_file() and card.is_file()
    assert (place / SERVED_PREDICTOR.name).read_bytes() == SERVED_PREDICTOR.read_bytes()


def test_it_is_listed_and_never_taken_for_a_classifier(project, store, version, tmp_path):
    told = typed(project.root, "registry", "list")
    assert told.returncode == 0 and NAME in told.stdout
    told = typed(project.root, "registry", "show", NAME)
    assert told.returncode == 0 and "explained variance" in told.stdout
    for words, line in (
        (("registry", "promote", NAME), f"{NAME} version 1 is a predictor of responses, no classifier"),
        (("evaluate", f"models:/{NAME}@candidate"), f"{NAME} version 1 is a predictor of responses, no classifier"),
        (("registry", "verify", NAME), f"{NAME} version 1 is not evaluated under norms"),
    ):
        told = typed(project.root, *words)
        assert told.returncode == 2, words
        assert line in told.stderr
        assert len(told.stderr.strip().splitlines()) == 1
    assert not store.client.get_registered_model(NAME).aliases.get("champion")
    with pytest.raises(InputError, match="neither evaluated nor promoted"):
        fetch(resolve(store, Reference(NAME)), tmp_path)


@pytest.mark.slow
def test_a_copy_of_the_store_has_it_too(project, store, version, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", database_uri(tmp_path / "team.db"))
    monkeypatch.chdir(tmp_path)
    target, done = open_store(project), Published()
    assert carry_over(project, store, target, done, lambda *_: None) == []
    (copy,) = versions_of(target, NAME)
    assert copy.tags[PREDICTOR_TAG] == version.tags[PREDICTOR_TAG]
    assert carry_over(project, store, target, Published(), lambda *_: None) == []
    assert len(versions_of(target, NAME)) == 1
    assert publish_all(project, target).created == []
    mlflow.set_tracking_uri(store.uri)


def test_a_damaged_predictor_is_left_out_and_said(project, store, version):
    folder = predictor_folder(project, "broken")
    shutil.copytree(predictor_folder(project, "it"), folder)
    (folder / "images.txt").write_text("")
    with pytest.raises(DataError, match=r"images\.txt: its SHA-256 is not the one in predictor\.json"):
        publish_predictor(project, store, folder, Published())
    (said,) = publish_all(project, store).left_out
    assert "images.txt" in said
    shutil.rmtree(folder)
