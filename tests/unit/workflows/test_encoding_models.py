"""`advalign neural fit`: tiny brains whose responses are known functions of their images; a V4 session of a macaque."""

import hashlib
import json
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from typer.testing import CliRunner

from advalign.cli.main import app
from advalign.data.reliability import reliability
from advalign.data.response_writer import About, write_ceilings, writing_responses
from advalign.data.responses import ResponseStore
from advalign.errors import DataError, InputError
from advalign.files import Project
from advalign.models.zoo import create_classifier
from advalign.workflows.encoding import check_spaces, fit_responses
from tests.conftest import REPOSITORY, save_untrained

pytest.importorskip("himalaya")
V4 = REPOSITORY.parent / "shared/reference/neural/v4_210325"
COUNT = 60


@pytest.fixture(scope="module")
def project(sample_root, tmp_path_factory):
    """60 gratings of random phase; `energy` answers by their orientation in V1, and by a category in IT."""
    root = tmp_path_factory.mktemp("encoding")
    (root / "params.yaml").write_text((REPOSITORY / "params.yaml").read_text())
    folder = root / "pictures" / "below"
    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    digests = []
    angle, phase = random.uniform(0, np.pi, COUNT), random.uniform(0, 2 * np.pi, COUNT)
    place = 2 * np.pi * np.arange(64) / 7
    for number in range(COUNT):
        along = place[None] * np.cos(angle[number]) + place[:, None] * np.sin(angle[number])
        path = folder / f"{number}.png"
        Image.fromarray((127 + 120 * np.cos(along + phase[number])).astype(np.uint8)).save(path)
        digests.append(hashlib.sha256(path.read_bytes()).hexdigest())
    labels = np.arange(COUNT) % 6
    images = pd.DataFrame({"id": [f"i{number}" for number in range(COUNT)], "sha256": digests, "label": labels})
    tuned = np.cos(2 * (angle[:, None] - np.array([0.0, 0.5, 1.0, 2.0])))
    betas = np.concatenate([tuned, random.normal(size=(6, 3))[labels]], 1)
    units = pd.DataFrame({"roi": ["V1"] * 4 + ["IT"] * 3, "subject": "one", "noise_ceiling": [0.5] * 4 + [np.nan] * 3})
    (root / "data" / "responses").mkdir(parents=True)
    shutil.copy(sample_root / "data" / "classes.yaml", root / "data")
    with writing_responses(root / "data/responses/energy.h5", About("simulated", "none"), images, units) as writer:
        writer.add_trials(np.arange(COUNT), betas, "train", 0)
    people = random.random((4, COUNT * (COUNT - 1) // 2))
    first, second = np.triu_indices(COUNT, 1)
    people += 2 * (labels[first] != labels[second])
    with writing_responses(root / "data/responses/people.h5", About("simulated", "none"), images) as writer:
        for number, one in enumerate(people):
            writer.add_rdm(one, f"s{number}", "IT")
    save_untrained(Project(root), "test_resnet.baseline", create_classifier("test_resnet", 36, 32, seed=0))
    return Project(root)


def fits(project, name, *spaces, **options):
    found = fit_responses(project, name, spaces, project.root / "pictures", resamples=100, **options)
    return {(area.roi, area.features): area for area in found.areas}


def test_each_area_is_explained_by_what_it_answers_to(project):
    found = fits(project, "energy", "pixels", "gabor-energy", "category", "gabor-energy+category")
    v1, it = (lambda name: found["V1", name]), (lambda name: found["IT", name])
    assert v1("gabor-energy").explained > v1("pixels").explained + 0.1
    assert v1("gabor-energy").explained > 0.3
    assert v1("category").explained < 0.1
    assert it("category").explained > 0.9
    assert it("gabor-energy").explained < 0.1
    assert it("gabor-energy+category").explained > 0.8
    assert v1("gabor-energy").over_ceiling == pytest.approx(2 * v1("gabor-energy").explained)
    assert np.isnan(it("category").over_ceiling)
    assert it("category").cka > 0.5 > v1("category").cka
    assert it("category").rsa > 0.5 > v1("category").rsa
    assert v1("gabor-energy").low < v1("gabor-energy").over_ceiling < v1("gabor-energy").high
    assert (v1("category").images, v1("category").units, v1("category").subject) == (COUNT, 4, "one")


def test_a_layer_of_a_checkpoint_is_a_feature_space(project):
    layer = "checkpoint:test_resnet.baseline@layer1"
    found = fits(project, "energy", layer, "checkpoint:test_resnet.baseline", roi="V1")
    assert found["V1", layer].explained > 0
    assert found["V1", layer].explained != found["V1", "checkpoint:test_resnet.baseline"].explained
    assert fits(project, "energy", layer, roi="V1")["V1", layer] == found["V1", layer]


def test_dissimilarities_of_people_are_compared_with_ceilings(project):
    found = fits(project, "people", "category", "pixels")["IT", "category"]
    assert found.rsa_lower < found.rsa < found.rsa_upper
    assert found.rsa > 0.4
    assert abs(fits(project, "people", "pixels")["IT", "pixels"].rsa) < 0.1
    assert np.isnan(found.explained)


def test_the_command_says_the_provenance(project, monkeypatch):
    monkeypatch.chdir(project.root)
    runner = CliRunner()
    arguments = ["neural", "fit", "energy", "--features", "category", "--roi", "IT"]
    told = runner.invoke(app, arguments)
    assert told.exit_code == 0
    assert "energy: simulated responses, none" in told.stdout
    found = json.loads(runner.invoke(app, [*arguments, "--json"]).stdout)
    assert found["provenance"] == "simulated"
    assert found["areas"][0]["explained"] > 0.9
    assert found["areas"][0]["over_ceiling"] is None


@pytest.mark.parametrize(
    ("spaces", "wanted"),
    [
        (["gabor"], "did you mean 'gabor-energy'"),
        (["pixels+pixels"], "a space is there twice"),
        (["pixels", "pixels"], "expected different names"),
        ([], "expected different names"),
        (["pixels+"], "unknown feature space"),
        (["checkpoint:"], "unknown feature space"),
    ],
)
def test_unknown_spaces_are_refused(spaces, wanted):
    with pytest.raises(InputError, match=wanted):
        check_spaces(spaces)


def test_what_is_missing_is_said(project, tmp_path):
    with pytest.raises(InputError, match="--images DIR"):
        fit_responses(project, "energy", ["pixels"])
    with pytest.raises(DataError, match="60 of 60 images of energy have no file of the same bytes, first 'i0'"):
        fit_responses(project, "energy", ["pixels"], tmp_path)
    with pytest.raises(InputError, match="unknown set of responses 'enrgy'"):
        fit_responses(project, "enrgy", ["pixels"])
    with pytest.raises(InputError, match="unknown area of energy"):
        fit_responses(project, "energy", ["category"], roi="V9")
    with pytest.raises(DataError, match="is not a checkpoint"):
        fit_responses(project, "energy", ["checkpoint:nobody"], project.root / "pictures")


def test_a_picture_that_is_none_is_named(project, tmp_path):
    copy = tmp_path / "project"
    shutil.copytree(project.root, copy)
    broken = copy / "pictures" / "below" / "5.png"
    broken.write_bytes(b"no picture")
    images = ResponseStore.open(copy / "data/responses/energy.h5").images[["id", "sha256", "label"]]
    images.loc[5, "sha256"] = hashlib.sha256(b"no picture").hexdigest()
    units = pd.DataFrame({"roi": ["V1"], "subject": ""})
    with writing_responses(copy / "data/responses/other.h5", About("simulated", "none"), images, units) as writer:
        writer.add_trials(np.arange(COUNT), np.ones((COUNT, 1)), "train", 0)
    with pytest.raises(DataError, match=r"5\.png cannot be read as an image"):
        fits(Project(copy), "other", "pixels")
    images["label"] = -1
    with writing_responses(copy / "data/responses/third.h5", About("simulated", "none"), images, units) as writer:
        writer.add_trials(np.arange(COUNT), np.ones((COUNT, 1)), "train", 0)
    with pytest.raises(DataError, match="60 images have no label"):
        fits(Project(copy), "third", "category")


@pytest.mark.slow
@pytest.mark.skipif(not V4.is_dir(), reason="needs ../shared/reference/neural: a V4 session")
def test_a_v4_session_is_explained_by_energy_and_more_by_its_second_order(tmp_path):
    """640 images, 50 sites: pixels < Gabor energy < with the second order, at least .35 of what can be explained."""
    with zipfile.ZipFile(V4 / "images.zip") as packed:
        packed.extractall(tmp_path / "pictures")
    (tmp_path / "params.yaml").write_text((REPOSITORY / "params.yaml").read_text())
    files = sorted((tmp_path / "pictures").rglob("*.jpg"))
    digests = [hashlib.sha256(path.read_bytes()).hexdigest() for path in files]
    images = pd.DataFrame({"id": [path.stem for path in files], "sha256": digests})
    raw = np.load(V4 / "responses_raw.npy").transpose(1, 2, 0)
    image, repeat = np.nonzero(~np.isnan(raw).any(2))
    store = Path(tmp_path / "data/responses/v4.h5")
    store.parent.mkdir(parents=True)
    units = pd.DataFrame({"roi": ["V4"] * 50, "subject": ""})
    with writing_responses(store, About("measured", "none"), images, units) as writer:
        writer.add_trials(image, raw[image, repeat], "train", 0)
    areas, ceilings = reliability(ResponseStore.open(store))
    assert areas[0].ceiling == pytest.approx(0.765, abs=0.02)
    write_ceilings(store, ceilings)
    spaces = ("pixels", "gabor-energy", "gabor-energy+second-order")
    found = fits(Project(tmp_path), "v4", *spaces)
    shares = [found["V4", space].over_ceiling for space in spaces]
    assert shares[0] < 0.6 * shares[1]
    assert shares[1] < shares[2]
    assert shares[2] >= 0.35
