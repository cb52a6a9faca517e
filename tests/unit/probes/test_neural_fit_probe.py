"""The neural-fit probe by value: features against responses to the same images, which are found by content."""

import math

import numpy as np
import pandas as pd
import pytest
import torch

from advalign.data.classes import read_classes
from advalign.data.response_writer import About, writing_responses
from advalign.data.results import read_rows, read_summary
from advalign.data.sets.base import Items
from advalign.data.sets.stimuli import StimulusSet
from advalign.errors import InputError
from advalign.evaluation.campaign import Campaign, TrainedModel
from advalign.evaluation.engines.local import local
from advalign.evaluation.protocols import protocol
from advalign.evaluation.runner import Evaluator
from advalign.evaluation.summaries import setting_of
from advalign.metrics.base import Evaluation
from advalign.models.zoo import create_classifier
from advalign.probes.base import Conditions
from advalign.probes.neural_fit import NeuralFit
from advalign.settings import load_settings
from advalign.tensors.neural_fit import neural_fit
from advalign.vocabulary import describe
from tests.conftest import save_untrained
from tests.tiny_responses import ANSWERED, answer_cifar, cifar_images
from tests.unit.probes.test_geometry import images, plain
from tests.unit.workflows.guided_world import PARAMS, made, write_params

pytest.importorskip("himalaya")
V4, IT = "simulated.V4", "simulated.IT"


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """The drawn world, and responses to its test images in another order: V4 to 30 of them, IT to the first 5."""
    project = made(tmp_path_factory.mktemp("fit"), scale=0.01)
    answer_cifar(project, "brain")
    return project


def asked(**settings):
    return NeuralFit(NeuralFit.Settings(**settings))


def items(pixels, **answers):
    extras = {f"responses.{name}": values for name, values in answers.items()}
    extras |= {f"ceilings.{name}": torch.full(values.shape, 0.5) for name, values in answers.items()}
    table = pd.DataFrame({"image": range(len(pixels)), "label": 0})
    return Items(table, torch.zeros(len(pixels), dtype=torch.int64), lambda _: pixels, extras)


def answered(pixels, units=3, seed=5):
    directions = torch.randn(pixels[0].numel(), units, generator=torch.Generator().manual_seed(seed))
    return pixels.flatten(1) @ directions


def test_rows_hold_features_and_responses_where_there_is_a_response():
    pixels = images(3, 4)
    values = answered(pixels)
    values[[1, 7]] = math.nan
    rows = asked(layer="keep").measure(plain(), items(pixels, **{V4: values}), Conditions(batch_size=5)).rows
    assert rows["features"].isna().tolist() == rows[f"responses.{V4}"].isna().tolist()
    assert np.flatnonzero(rows["features"].isna()).tolist() == [1, 7]
    kept = rows.dropna()
    np.testing.assert_array_equal(np.stack(list(kept["features"])), pixels.flatten(1)[kept["image"].tolist()])
    np.testing.assert_array_equal(np.stack(list(kept[f"responses.{V4}"])), values[kept["image"].tolist()])
    assert (
        asked().measure(plain(), items(pixels, **{V4: values * math.nan}), Conditions()).rows["features"].isna().all()
    )


def test_numbers_are_those_of_the_first_images_with_a_response():
    pixels = images(8, 10)
    probe = asked(layer="keep", images=60)
    values = answered(pixels)
    values[30] = math.nan
    few = torch.full((80, 2), math.nan)
    few[:19] = 1 + torch.arange(38.0).reshape(19, 2)
    rows = probe.measure(plain(), items(pixels, **{V4: values, IT: few}), Conditions()).rows
    found = probe.summarise(Evaluation(rows, math.nan, 200, 0))
    kept = [row for row in range(80) if row != 30][:60]
    features, responses = (one[kept].double().numpy() for one in (pixels.flatten(1), values))
    wanted = neural_fit([features], responses, np.full(3, 0.5), 200, 0)
    assert wanted.explained.share > 0.8
    assert found[f"explained_variance.{V4}"] == pytest.approx(wanted.explained.share)
    assert found[f"explained_over_ceiling.{V4}"] == pytest.approx(2 * wanted.explained.share)
    assert found[f"explained_over_ceiling.{V4}_ci_low"] < found[f"explained_over_ceiling.{V4}"]
    assert (found[f"rsa.{V4}"], found[f"cka.{V4}"]) == (pytest.approx(wanted.rsa), pytest.approx(wanted.cka))
    assert found["n_images_with_responses"] == 79
    assert math.isnan(found[f"explained_variance.{IT}"])  # 19 images
    assert math.isnan(found[f"rsa.{IT}"])
    assert all(describe(name).name == name for name in found)
    assert describe(f"explained.{V4}_ci_high").name == f"explained_over_ceiling.{V4}_ci_high"


def test_images_are_found_by_content(project):
    order, betas = answer_cifar(project, "brain")
    probe, known = asked(responses="brain", rois=["V4"]), cifar_images(project)
    parts = [probe.items(project, known, first, first + 20, 0).extras[f"responses.{V4}"] for first in (0, 20)]
    found = torch.cat(parts).numpy()
    np.testing.assert_allclose(found[order], betas[:, :4], rtol=1e-6)
    assert np.isnan(np.delete(found, order, 0)).all()
    about = probe.about(project, known)
    assert (about["responses"], about["provenance"], about["images"]) == ("brain", "simulated", {V4: ANSWERED})
    assert probe.items(project, known, 0, 9, 0).extras[f"ceilings.{V4}"].unique().tolist() == [0.5]
    one = asked(responses="brain", rois=["V4"], units=2).items(project, known, 0, 40, 0).extras[f"responses.{V4}"]
    assert sum(np.array_equal(one[:, 0], column, equal_nan=True) for column in found.T) == 1
    assert one.shape == (40, 2)


def test_every_subject_has_numbers_of_its_own(project):
    answer_cifar(project, "several", subjects=("s1", "s 2"))
    about = asked(responses="several", rois=["V4"]).about(project, cifar_images(project))
    assert about["images"] == {"simulated.s1.V4": ANSWERED, "simulated.s.2.V4": ANSWERED}
    about = asked(responses="several", rois=["V4"], subject="s 2").about(project, cifar_images(project))
    assert about["images"] == {"simulated.s.2.V4": ANSWERED}
    (project.data / "responses" / "several.h5").unlink()


def test_what_cannot_be_fitted_is_said_before_anything_runs(project, monkeypatch):
    known = cifar_images(project)
    with pytest.raises(InputError, match=r"'IT' has responses to 5 of the 40 images .* 20 are needed: name an image"):
        asked(responses="brain").about(project, known)
    with pytest.raises(InputError, match="unknown area of brain 'V5'"):
        asked(responses="brain", rois=["V5"]).about(project, known)
    with pytest.raises(InputError, match="unknown subject of brain"):
        asked(responses="brain", subject="two").about(project, known)
    with pytest.raises(InputError, match="unknown set of responses 'brian'"):
        asked(responses="brian").about(project, known)
    assert asked(rois=["V4"]).about(project, known)["responses"] == "brain"  # the only one
    answer_cifar(project, "other")
    with pytest.raises(
        InputError, match="responses is null, and data/responses has 'brain', 'other': name one in a pro"
    ):
        asked(rois=["V4"]).about(project, known)
    (project.data / "responses" / "other.h5").unlink()
    with writing_responses(project.data / "responses" / "rdms.h5", About("simulated", "none"), TABLE) as writer:
        writer.add_rdm(np.ones(3), "one", "V4")
    with pytest.raises(InputError, match="holds dissimilarities: `advalign neural fit` compares them"):
        asked(responses="rdms").about(project, known)
    (project.data / "responses" / "rdms.h5").unlink()
    monkeypatch.setattr("advalign.tensors.encoding.find_spec", lambda _: None)
    with pytest.raises(InputError, match=r"need himalaya: install it with `pip install 'advalign\[neural\]'`"):
        asked(responses="brain", rois=["V4"]).about(project, known)


TABLE = pd.DataFrame({"id": ["a", "b", "c"]})


def test_a_set_that_does_not_know_its_images_is_refused():
    class Anonymous(StimulusSet):
        image_sha256 = StimulusSet.__mro__[1].image_sha256

    empty = torch.zeros(1, 3, 4, 4, dtype=torch.uint8)
    with pytest.raises(InputError, match="does not know the SHA-256 of its images"):
        Anonymous(pd.DataFrame({"stimulus": ["a"]}), empty, empty[:, 0]).image_sha256(0, 1)


def test_an_evaluation_says_the_provenance_and_is_computed_again_for_other_responses(project):
    fit = {"fit-v4": {"probe": "neural-fit", "image_set": "cifar", "settings": {"responses": "brain", "rois": ["V4"]}}}
    write_params(project.root, evaluate={**PARAMS["evaluate"], "protocols": fit, "protocol": "fit-v4"})
    classes = read_classes(project.data / "classes.yaml")
    save_untrained(project, "model", create_classifier("test_resnet", len(classes), 32, seed=0).eval())
    evaluator, summary = evaluated(project)
    label = f"explained_over_ceiling.{V4}"
    assert summary["metrics"][label] == pytest.approx(2 * summary["metrics"][f"explained_variance.{V4}"])
    assert summary["metrics"]["n_images_with_responses"] == ANSWERED
    assert summary["about"]["provenance"] == "simulated"
    rows = read_rows(evaluator.paths("model").rows)
    again = evaluator.protocol.probe.summarise(Evaluation(rows, math.nan, 200, 0))
    assert again[label] == pytest.approx(summary["metrics"][label])
    answer_cifar(project, "brain", gain=3.0)
    other = evaluated(project)[1]
    assert other["inputs_sha256"] != summary["inputs_sha256"]
    assert setting_of(other) != setting_of(summary)
    assert other["metrics"][label] == pytest.approx(summary["metrics"][label], abs=1e-3)  # of a gain nothing is left


def evaluated(project):
    evaluator = Evaluator(project, load_settings(project.root))
    (outcome,) = Campaign(evaluator, [TrainedModel(project.checkpoints / "model")], local(1)).run()
    assert outcome.state == "evaluated", outcome
    return evaluator, read_summary(evaluator.paths("model"))


def test_it_is_a_protocol():
    assert protocol("neural-fit").probe.settings.responses is None
    assert protocol("neural-fit").summary.startswith("Explained variance over the noise ceiling, RSA and linear CKA")
