"""The arms of a study: every area with its controls, and targets that are what their names say."""

import numpy as np
import pytest

from advalign.data.responses import ResponseStore, need_responses, responses_digest
from advalign.settings import GuidanceSettings, TrainSettings, load_settings
from advalign.strict_settings import parse
from advalign.workflows.guidance_arms import arms
from advalign.workflows.guidance_targets import _Area, write_degraded, write_random
from advalign.workflows.simulated_responses import simulate
from tests.unit.workflows.guided_world import made


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    project = made(tmp_path_factory.mktemp("arms"))
    simulate(project, load_settings(project.root))
    return project


def asked(**values):
    return parse(GuidanceSettings, {"responses": "nsd", "areas": ["V1", "IT"], **values}, "guidance")


def listed(study, can_match=False):
    return {arm.name: arm for arm in arms("first", study, study.areas, TrainSettings(), can_match)}


def test_every_area_has_all_controls():
    found = listed(asked(seeds=5, control_seeds=2, shorter=[{"epochs": 1}]))
    assert {name: (arm.role, arm.seeds) for name, arm in found.items()} == {
        "none": ("none", 5), "none.epochs1": ("shorter", 5), "nsd.class-code.V1": ("class-code", 5),
        "nsd.V1": ("area", 5), "nsd.V1.shuffled": ("shuffled", 5), "nsd.V1.within": ("shuffled-within-class", 2),
        "nsd.V1.degraded.first": ("degraded", 2), "nsd.IT": ("area", 5), "nsd.IT.shuffled": ("shuffled", 5),
        "nsd.IT.within": ("shuffled-within-class", 2), "nsd.IT.degraded.first": ("degraded", 2),
        "random.test_resnet.guided": ("random-net", 2),
    }  # fmt: skip
    overrides = {name: arm.training.overrides for name, arm in found.items()}
    assert overrides["nsd.IT"] == {"responses": "nsd", "roi": "IT", "subject": None}
    assert overrides["nsd.IT.shuffled"] == {**overrides["nsd.IT"], "control": "shuffled"}
    assert overrides["nsd.IT.degraded.first"] == {**overrides["nsd.IT"], "responses": "nsd.degraded.first"}
    assert overrides["nsd.class-code.V1"]["control"] == "class-code"
    assert found["none"].training.recipe == "baseline"
    assert found["none.epochs1"].training.train == {"epochs": 1}
    assert found["nsd.IT"].model(3) == "nsd.IT.seed3"


def test_a_model_per_subject():
    found = listed(asked(subjects=["subj 01", "subj02"], controls=["shuffled"]))
    assert [arm.subject for arm in found.values() if arm.role == "area"] == ["subj 01", "subj02"] * 2
    assert found["nsd.V1.subj.01"].training.overrides["subject"] == "subj 01"


def test_unguided_training_of_the_same_weight_has_a_smaller_rate():
    study = asked(overrides={"normalise_ce": False, "alpha": 0.75}, train={"learning_rate": 0.1}, controls=["none-ce"])
    assert listed(study, can_match=True)["none.ce"].training.train["learning_rate"] == pytest.approx(0.025)
    assert "none.ce" not in listed(study)


def test_an_untrained_network_has_responses_to_all_training_images(world):
    settings = load_settings(world.root)
    study = settings.guidance["small"]
    write_random(world, settings, study)
    store = ResponseStore.open(need_responses(world, "random.test_resnet"))
    means = store.mean_responses("random", split="train")[1]
    assert (store.provenance, means.shape) == ("simulated", (len(store.images), 64))
    before = responses_digest(store.path)
    write_random(world, settings, study)
    assert responses_digest(store.path) == before, "models would be trained again"


def test_degraded_areas_have_one_dimension_and_one_ceiling(world):
    settings = load_settings(world.root)
    store = ResponseStore.open(need_responses(world, "simulated"))
    told = write_degraded(world, "small", settings.guidance["small"], store, ["V1", "V4", "IT"], 0)
    degraded = ResponseStore.open(need_responses(world, "simulated.degraded.small"))
    means = {roi: degraded.mean_responses(roi, split="train")[1] for roi in degraded.rois}
    ranks = {roi: np.linalg.matrix_rank(values, tol=1e-3) for roi, values in means.items()}
    assert len(set(ranks.values())) == 1
    assert told == f"All areas have {ranks['V1']} dimensions and a ceiling of 0.900."
    assert (degraded.provenance, set(degraded.units["noise_ceiling"])) == ("simulated", {np.float32(0.9)})
    full = store.mean_responses("V1", split="train")[1]
    assert np.corrcoef(full.ravel(), means["V1"].ravel())[0, 1] > 0.9
    before = responses_digest(degraded.path)
    write_degraded(world, "small", settings.guidance["small"], store, ["V1", "V4", "IT"], 0)
    assert responses_digest(degraded.path) == before, "models would be trained again"


def test_an_area_of_a_higher_ceiling_gets_noise():
    values = np.random.default_rng(0).standard_normal((5000, 3))
    area = _Area(np.arange(5000), values, 0.8)
    found = area.degraded(3, 0.4, np.random.default_rng(1))
    assert found.var() / values.var() == pytest.approx(2.0, rel=0.05)  # .8 of 1 is signal, .4 of 2
    assert area.degraded(3, 0.8, np.random.default_rng(1)) == pytest.approx(values)
