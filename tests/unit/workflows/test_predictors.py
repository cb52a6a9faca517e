"""Predictors of responses: a world in which the responses are a linear function of a layer's features, and noise."""

import json
import shlex
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from advalign.cli.main import app
from advalign.data.image_digests import image_digests
from advalign.data.response_writer import About, writing_responses
from advalign.data.responses import ResponseStore, need_responses
from advalign.errors import DataError, InputError
from advalign.files import sha256
from advalign.models.predictors import IMAGES, MAP, PREDICTOR, load_predictor, predictor_folder, save_predictor
from advalign.settings import Training, load_settings
from advalign.training.plan import plan
from advalign.training.train import train
from advalign.workflows.predicted_responses import predict_responses
from advalign.workflows.predictors import fit_predictor, image_sets
from tests.conftest import REPOSITORY
from tests.unit.workflows.predictor_world import CEILING, NET, UNITS, features_of, linear_world, write

pytest.importorskip("himalaya")


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return linear_world(tmp_path_factory.mktemp("predictors"))


@pytest.fixture(scope="module")
def exact(world):
    return fit_predictor(world[0], "exact", NET, "IT", "exact-it", resamples=100)[0]


@pytest.fixture(scope="module")
def predicted(world, exact):
    return ResponseStore.open(predict_responses(world[0], "exact-it", "predicted"))


def test_a_linear_world_is_explained_wholly(world, exact):
    assert exact.explained == pytest.approx(1, abs=0.01)
    assert exact.over_ceiling == pytest.approx(exact.explained)
    assert (exact.units, exact.roi, exact.subject, exact.provenance) == (UNITS, "IT", "A", "simulated")
    assert exact.fitted + exact.held_out == len(world[2])
    assert exact.held_out == max(10, len(world[2]) // 10)
    assert (exact.backbone, exact.architecture, exact.layer) == (NET, "test_resnet", None)
    assert exact.responses_sha256 == sha256(world[0].data / "responses" / "exact.h5")


def test_with_noise_as_much_is_explained_as_can_be(world):
    card, _ = fit_predictor(world[0], "noisy", NET, "IT", "noisy-it", resamples=100)
    assert card.noise_ceiling == pytest.approx(CEILING)
    assert card.over_ceiling == pytest.approx(card.explained / CEILING)
    assert 0.85 < card.over_ceiling < 1.05
    assert card.low < card.over_ceiling < card.high


def test_an_untrained_guess_explains_nothing(world):
    """Responses that are noise alone: the images held out find it out."""
    project, known, numbers = world
    table = known.iloc[numbers].assign(id=[f"i{number}" for number in numbers])
    write(project, "noise", table, np.random.default_rng(5).normal(size=(len(numbers), UNITS)))
    card, _ = fit_predictor(project, "noise", NET, "IT", "noise-it", layer="layer1", resamples=100)
    assert card.explained < 0.1
    assert card.over_ceiling is None and card.noise_ceiling is None


def test_images_held_out_by_the_store_are_used(world):
    """Trials of split validation: all images of split train are fitted to."""
    project, known, numbers = world
    table = known.iloc[numbers].assign(id=[f"i{number}" for number in numbers])
    values = ResponseStore.open(project.data / "responses" / "exact.h5").read()
    split = np.where(np.arange(len(table)) < 30, 1, 0).astype(np.int8)
    write(project, "apart", table, values, 1.0, split)
    card, _ = fit_predictor(project, "apart", NET, "IT", "apart-it", resamples=100)
    assert (card.fitted, card.held_out) == (len(table) - 30, 30)
    fitted = set((predictor_folder(project, "apart-it") / IMAGES).read_text().split())
    assert fitted == set(table["sha256"].iloc[30:])


def test_predicted_responses_are_the_map_of_the_features(world, exact, predicted):
    project, known, _ = world
    assert predicted.path == need_responses(project, "predicted")
    rows, means = predicted.mean_responses("IT", "A", "train")
    images, validation = image_sets(project)
    place = {one: number for number, one in enumerate(known["sha256"])}
    numbers = [place[one] for one in predicted.images["sha256"].iloc[rows]]
    parts = load_predictor(predictor_folder(project, "exact-it")).map
    expected = (features_of(project, images, numbers) - parts.mean) / parts.spread @ parts.weights + parts.intercept
    np.testing.assert_allclose(means, expected, atol=1e-4)
    rows, means = predicted.mean_responses("IT", "A", "validation")
    assert len(rows) == len(validation)
    np.testing.assert_allclose(means[:3], parts(features_of(project, validation, range(3))), atol=1e-4)


def test_what_a_predictor_was_fitted_to_is_not_predicted(world, exact, predicted):
    project, known, numbers = world
    fitted = load_predictor(predictor_folder(project, "exact-it")).fitted_to
    assert len(fitted) == exact.fitted
    assert fitted < set(known["sha256"].iloc[numbers])
    validation = set(image_digests(image_sets(project)[1])["sha256"])
    of_split = {
        split: set(predicted.images["sha256"].iloc[predicted.trials.loc[predicted.trials["split"] == split, "image"]])
        for split in (0, 1)
    }
    assert not fitted & set(predicted.images["sha256"])
    assert of_split[0] == set(known["sha256"]) - fitted
    assert of_split[1] == validation
    assert not of_split[0] & of_split[1]


def test_the_store_says_that_it_is_predicted_and_by_what(world, exact, predicted):
    assert predicted.provenance == "predicted"
    assert predicted.units["noise_ceiling"].isna().all()
    assert "Predicted by exact-it" in predicted.description
    assert "fitted to simulated responses exact" in predicted.description
    card = predictor_folder(world[0], "exact-it") / PREDICTOR
    assert predicted.sources == {"exact-it/predictor.json": sha256(card), "exact.h5": exact.responses_sha256}


def test_no_validation_image_is_fitted_to(world):
    """A store that calls them training images does not change that."""
    project, known, _ = world
    validation = image_digests(image_sets(project)[1])
    table = pd.concat([known.iloc[:60], validation.iloc[:40]], ignore_index=True)
    table = table.assign(id=[f"i{number}" for number in range(100)])
    write(project, "mixed", table, np.random.default_rng(6).normal(size=(100, UNITS)))
    card, _ = fit_predictor(project, "mixed", NET, "IT", "mixed-it", resamples=100)
    fitted = load_predictor(predictor_folder(project, "mixed-it")).fitted_to
    assert card.fitted + card.held_out == 60
    assert not fitted & set(validation["sha256"])


def test_the_same_inputs_give_the_same_files(world, exact, predicted):
    project = world[0]
    folder = predictor_folder(project, "exact-it")
    files = {path.name: sha256(path) for path in folder.iterdir()}
    card, new = fit_predictor(project, "exact", NET, "IT", "exact-it", resamples=100)
    assert (card, new) == (exact, False)
    assert fit_predictor(project, "exact", NET, "IT", "exact-it", resamples=100, replace=True) == (exact, True)
    assert {path.name: sha256(path) for path in folder.iterdir()} == files
    before = sha256(predicted.path)
    assert sha256(predict_responses(project, "exact-it", "predicted", replace=True)) == before
    assert [one.name for one in folder.parent.iterdir() if one.name.startswith(".")] == []


def test_batch_norms_are_in_evaluation_mode(world, exact):
    """A picture has the same responses alone and beside others."""
    predictor = load_predictor(predictor_folder(world[0], "exact-it"))
    pixels = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    np.testing.assert_allclose(predictor.responses(pixels)[:1], predictor.responses(pixels[:1]), atol=1e-5)


def test_predicted_responses_guide_a_training(world, predicted):
    project = world[0]
    wanted = {"responses": "predicted", "roi": "IT"}
    one = plan(project, load_settings(project.root), Training(model="test_resnet", recipe="guided", overrides=wanted))
    card = train(project, one, project.runs / "guided", list, device="cpu")
    told = card.settings["responses"]
    assert (told["provenance"], told["noise_ceiling"]) == ("predicted", None)
    assert told["images"] == int((predicted.trials["split"] == 0).sum()) < told["of"]


def test_images_are_found_in_a_folder(world, tmp_path):
    """PNG files of photographs that the project does not have."""
    project, random = world[0], np.random.default_rng(7)
    digests = []
    for number in range(40):
        path = tmp_path / f"{number}.png"
        Image.fromarray(random.integers(0, 256, (40, 48, 3), np.uint8)).save(path)
        digests.append(sha256(path))
    table = pd.DataFrame({"id": [f"i{number}" for number in range(40)], "sha256": digests, "label": -1})
    write(project, "photographs", table, random.normal(size=(40, UNITS)))
    with pytest.raises(DataError, match=r"0 images of split train .* name the folder of the images with --images DIR"):
        fit_predictor(project, "photographs", NET, "IT", "lab")
    card, _ = fit_predictor(project, "photographs", NET, "IT", "lab", images=tmp_path, resamples=100)
    assert (card.fitted, card.held_out) == (30, 10)
    path = predict_responses(project, "lab", "from-photographs")
    assert int((ResponseStore.open(path).trials["split"] == 0).sum()) == len(world[1])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"responses": "exat"}, "unknown set of responses 'exat'; did you mean 'exact'"),
        ({"model": "test_resnet.teachr"}, "unknown model 'test_resnet.teachr'; did you mean 'test_resnet.teacher'"),
        ({"roi": "V4"}, "unknown area of exact 'V4'"),
        ({"subject": "B"}, "unknown subject of exact 'B'"),
        ({"layer": "layer9"}, "has no layer 'layer9': it has"),
        ({"name": "../x"}, "cannot name a predictor"),
        ({"responses": "few"}, "25 images of split train .* expected at least 20 to fit to and 10 to hold out"),
        ({"responses": "people"}, "2 subjects have 'IT': give --subject, one of 'A', 'B'"),
        ({"responses": "matrices"}, "holds dissimilarities, no responses"),
        ({"name": "exact-it", "seed": 3}, "was fitted to something else: give another --name, or --replace"),
        ({"images": "nowhere"}, "nowhere is no folder"),
    ],
)
def test_what_cannot_be_fitted_is_one_line_and_leaves_nothing(world, exact, changes, message, tmp_path):
    project, known, _ = world
    table = known.iloc[:25].assign(id=[f"i{number}" for number in range(25)])
    write(project, "few", table, np.random.default_rng(0).normal(size=(25, UNITS)))
    write(project, "people", table, np.random.default_rng(0).normal(size=(25, UNITS)), subjects=("A", "B"))
    with writing_responses(project.data / "responses/matrices.h5", About("simulated", "none"), table) as writer:
        writer.add_rdm(np.ones(25 * 24 // 2), "A", "IT")
    asked = {"responses": "exact", "model": NET, "roi": "IT", "name": "broken"} | changes
    if "images" in asked:
        asked["images"] = tmp_path / asked["images"]
    with pytest.raises(InputError, match=message) as refused:
        fit_predictor(project, **asked)
    assert "\n" not in str(refused.value)
    assert not (project.root / "outputs/predictors/broken").exists()


def test_what_cannot_be_predicted_is_one_line(world, exact, predicted):
    project = world[0]
    with pytest.raises(InputError, match="unknown predictor 'exact-i'; did you mean 'exact-it'"):
        predict_responses(project, "exact-i", "x")
    with pytest.raises(InputError, match="cannot name a set of responses"):
        predict_responses(project, "exact-it", "../x")
    with pytest.raises(InputError, match=r"exact\.h5 is there, and recipes would read it instead: give another name"):
        predict_responses(project, "exact-it", "exact")
    fit_predictor(project, "exact", NET, "IT", "other-it", seed=2, resamples=100)
    with pytest.raises(InputError, match="exists with other content: give another name with --as, or --replace"):
        predict_responses(project, "other-it", "predicted")
    assert predict_responses(project, "exact-it", "predicted") == predicted.path


@pytest.mark.parametrize("file", [PREDICTOR, MAP, IMAGES, "model.safetensors", "card.json"])
def test_a_damaged_artefact_is_refused(world, exact, file):
    project = world[0]
    shutil.copytree(predictor_folder(project, "exact-it"), predictor_folder(project, "damaged"), dirs_exist_ok=True)
    path = predictor_folder(project, "damaged") / file
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(DataError, match="fit it again with `advalign neural predictor --replace`"):
        predict_responses(project, "damaged", "x")
    path.unlink()
    with pytest.raises(InputError, match=r"is missing: fit it again|unknown predictor 'damaged'"):
        predict_responses(project, "damaged", "x")
    assert not (project.root / "outputs/responses/x.h5").exists()
    shutil.rmtree(predictor_folder(project, "damaged"))


def test_without_himalaya_one_line_says_so(world, monkeypatch):
    monkeypatch.setattr("advalign.tensors.encoding.find_spec", lambda _: None)
    with pytest.raises(InputError, match=r"need himalaya: install it with `pip install 'advalign\[neural\]'`"):
        fit_predictor(world[0], "exact", NET, "IT", "broken")


def test_a_predictor_that_other_code_fitted_is_not_taken_for_the_same(world, exact, monkeypatch):
    assert fit_predictor(world[0], "exact", NET, "IT", "exact-it") == (exact, False)
    monkeypatch.setattr("advalign.workflows.predictors.ROOT", "advalign.workflows.predictors:image_sets")
    with pytest.raises(InputError, match="was fitted to something else: give another --name, or --replace"):
        fit_predictor(world[0], "exact", NET, "IT", "exact-it")


def test_an_old_predictor_stays_where_a_new_one_fails(world, exact, monkeypatch):
    project = world[0]
    before = sha256(predictor_folder(project, "exact-it") / PREDICTOR)
    monkeypatch.setattr("advalign.models.predictors.save_file", lambda *_: (_ for _ in ()).throw(OSError("full")))
    with pytest.raises(OSError, match="full"):
        fit_predictor(project, "exact", NET, "IT", "exact-it", seed=9, replace=True)
    folder = predictor_folder(project, "exact-it")
    assert sha256(folder / PREDICTOR) == before
    assert [one.name for one in folder.parent.iterdir() if one.name.startswith(".")] == []


def test_the_documented_commands(world, exact, monkeypatch):
    project = world[0]
    page = (REPOSITORY / "docs" / "neural.md").read_text().replace("resnet18.baseline", NET).replace("nsd1 ", "exact ")
    fit, predict = (
        shlex.split(line.replace("V4", "IT").replace("nsd1-v4", "exact-it", 1), comments=True)[1:]
        for line in page.splitlines()
        if line.startswith(("advalign neural predictor", "advalign neural predict "))
    )
    monkeypatch.chdir(project.root)
    runner = CliRunner()
    told = runner.invoke(app, [*fit, "--resamples", "100"])
    assert told.exit_code == 0, told.output
    assert "exact-it: simulated responses exact" in told.stdout
    assert "outputs/predictors/exact-it (was there already)" in told.stdout
    told = runner.invoke(app, [*fit, "--json"])
    assert json.loads(told.stdout)["inputs_sha256"] == exact.inputs_sha256
    told = runner.invoke(app, predict)
    assert told.exit_code == 0, told.output
    count = len(world[1]) - exact.fitted
    assert f"outputs/responses/nsd1-v4.h5: {count} training and " in told.stdout
    assert f"{UNITS} units, provenance predicted" in told.stdout


def test_nothing_is_left_where_all_was_fitted_to(world):
    project, known, _ = world
    predictor = load_predictor(predictor_folder(project, "exact-it"))
    folder = predictor_folder(project, "greedy")
    parts = predictor.card.model_dump(exclude={"card_sha256", "weights_sha256", "map_sha256", "images_sha256"})
    save_predictor(folder, project.checkpoints / NET, predictor.map, known["sha256"], {**parts, "name": "greedy"})
    with pytest.raises(InputError, match=r"greedy was fitted to all \d+ training images: none is left"):
        predict_responses(project, "greedy", "x")
