"""Fit of a study's models: which numbers of the probe an arm has, and protocols that cannot give them."""

import pytest

from advalign.data.responses import ResponseStore, need_responses
from advalign.errors import InputError
from advalign.evaluation.runner import Evaluator
from advalign.settings import GuidanceSettings, load_settings
from advalign.strict_settings import parse
from advalign.workflows.guidance_fit import Fits
from advalign.workflows.simulated_responses import simulate
from tests.unit.workflows.guided_world import PARAMS, made, write_params

pytest.importorskip("himalaya")
NUMBERS = {
    "explained_over_ceiling.simulated.V1": 0.4, "explained_variance.simulated.V1": 0.3, "rsa.simulated.V1": 0.2,
    "cka.simulated.V1": 0.1, "explained_over_ceiling.simulated.IT": 0.8, "rsa.simulated.IT": 0.6,
    "cka.simulated.IT": 0.5, "explained_over_ceiling.simulated.V4": None, "explained_variance.simulated.V4": 0.9,
    "rsa.simulated.V4": None, "cka.simulated.V4": None, "n_images_with_responses": 20.0,
}  # fmt: skip


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Simulated responses, and protocols of fits to all areas, to one, and of something else."""
    project = made(tmp_path_factory.mktemp("fits"))
    evaluate = PARAMS["evaluate"]
    one = {"probe": "neural-fit", "image_set": "cifar", "settings": {"responses": "simulated", "rois": ["V1"]}}
    write_params(project.root, evaluate={**evaluate, "protocols": {**evaluate["protocols"], "v1": one}})
    simulate(project, load_settings(project.root))
    return project, ResponseStore.open(need_responses(project, "simulated"))


def fits(world, protocol="fit-cifar", responses="simulated", areas=("V1", "IT"), **values):
    project, store = world
    asked = parse(GuidanceSettings, {"responses": responses, "areas": areas, **values}, "guidance")
    evaluator = Evaluator(project, load_settings(project.root), protocol) if protocol else None
    return Fits(evaluator, store, asked, areas)


def test_an_arm_has_the_numbers_of_its_area_and_others_the_mean(world):
    found = fits(world)
    assert found.told == "Fits are cross-validated over 20 images of cifar."
    assert found.of(NUMBERS, "V1", "") == {"explained": 0.4, "rsa": 0.2, "cka": 0.1}
    assert found.of(NUMBERS, "IT", "simulated") == {"explained": 0.8, "rsa": 0.6, "cka": 0.5}
    assert found.of(NUMBERS, "", "") == pytest.approx({"explained": 0.6, "rsa": 0.4, "cka": 0.3})
    assert found.of(NUMBERS, "V4", "") == {}  # not of the study
    assert fits(world, areas=("V4",)).of(NUMBERS, "V4", "") == {"explained": 0.9}  # no ceiling is known


def test_without_a_protocol_nothing_is_fitted(world):
    found = fits(world, protocol=None)
    assert (found.told, found.of(NUMBERS, "V1", "")) == ("No fit to the responses was measured.", {})


def test_a_protocol_that_cannot_give_them_is_refused(world):
    with pytest.raises(InputError, match="protocols: geometry-cifar measures no neural fit: name another protocol for"):
        fits(world, "geometry-cifar")
    with pytest.raises(InputError, match="protocols: v1 lacks area 'IT' of the study: add it to its rois"):
        fits(world, "v1")
    project, store = world
    other = store.path.with_name("other.h5")
    other.write_bytes(store.path.read_bytes())
    with pytest.raises(InputError, match="protocols: v1 fits 'simulated', the study is of 'other': name a protocol of"):
        fits((project, ResponseStore.open(other)), "v1", responses="other", areas=("V1",))
