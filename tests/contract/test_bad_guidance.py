"""`advalign guidance study` with inputs that cannot be: one line each, before anything is trained."""

import numpy as np
import pandas as pd
import pytest
import yaml

from advalign.data.response_writer import About, writing_responses
from advalign.settings import load_settings
from advalign.workflows.simulated_responses import simulate
from tests.pipeline.conftest import typed
from tests.unit.workflows.guided_world import PARAMS, made, write_params

SMALL = PARAMS["guidance"]["small"]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    project = made(tmp_path_factory.mktemp("bad"), scale=0.02)
    simulate(project, load_settings(project.root))
    images = pd.DataFrame({"id": ["a", "b", "c"]})
    with writing_responses(
        project.root / "outputs/responses/matrices.h5", About("simulated", "none"), images
    ) as writer:
        writer.add_rdm(np.ones(3), "one", "V1")
    return project


CASES = {
    "no study of that name": ({}, ("smal",), "unknown study 'smal'; did you mean 'small'?"),
    "several studies": ({"second": SMALL}, (), "params.yaml has several studies: name one of second, small"),
    "no responses of that name": ({"small": {**SMALL, "responses": "simulatd"}}, (), "did you mean 'simulated'?"),
    "no such area": ({"small": {**SMALL, "areas": ["V1", "V5"]}}, (), "unknown area of simulated 'V5'"),
    "no such subject": ({"small": {**SMALL, "subjects": ["subj01"]}}, (), "unknown subject of simulated 'subj01'"),
    "dissimilarities": (
        {"small": {**SMALL, "responses": "matrices", "areas": ["V1"]}}, (),
        "matrices.h5 holds dissimilarities: guidance needs responses to single images",
    ),
    "an area twice": ({"small": {**SMALL, "areas": ["V1", "V1"]}}, (), "areas: the same area twice"),
    "no area": ({"small": {**SMALL, "areas": []}}, (), "guidance.small.areas"),
    "no norm": (
        {"small": {**SMALL, "protocols": {"l2": None, "linf": None}}}, (),
        "protocols: neither l2 nor linf, so nothing would be judged",
    ),
    "no such protocol": ({"small": {**SMALL, "protocols": {"l2": "norm"}}}, (), "unknown protocol 'norm'"),
    "a protocol that searches no norms": (
        {"small": {**SMALL, "protocols": {"l2": "geometry-cifar", "linf": None, "geometry": None, "fit": None}}}, (),
        "protocols: geometry-cifar searches no l2 norms: name another protocol for l2",
    ),
    "norms of another kind": (
        {"small": {**SMALL, "protocols": {"l2": "norms", "linf": "norms", "geometry": None, "fit": None}}}, (),
        "protocols: norms searches no linf norms: name another protocol for linf",
    ),
    "a protocol that fits nothing": (
        {"small": {**SMALL, "protocols": {**SMALL["protocols"], "fit": "geometry-cifar"}}}, (),
        "protocols: geometry-cifar measures no neural fit: name another protocol for fit, or null",
    ),
    "no such control": ({"small": {**SMALL, "controls": ["shuffeld"]}}, (), "guidance.small.controls"),
    "an unknown key": ({"small": {**SMALL, "area": ["V1"]}}, (), "unknown key 'area'; did you mean 'areas'?"),
    "no seeds": ({"small": {**SMALL, "seeds": 0}}, (), "guidance.small.seeds"),
    "no such setting of the recipe": ({"small": {**SMALL, "overrides": {"alfa": 0.5}}}, (), "alfa"),
    "no such architecture": ({"small": {**SMALL, "model": "test_resnett"}}, (), "test_resnett"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_it_is_one_line_and_nothing_is_trained(world, case):
    guidance, words, message = CASES[case]
    write_params(world.root, guidance={**PARAMS["guidance"], **guidance})
    done = typed(world.root, "guidance", "study", *words)
    assert done.returncode == 2, done.stderr
    lines = [line for line in done.stderr.splitlines() if line]
    assert len(lines) == 1, done.stderr
    assert message in lines[0]
    assert "Traceback" not in done.stderr
    assert not list((world.root / "outputs").glob("guidance/models/*"))


def test_a_project_without_studies(world):
    params = {key: value for key, value in PARAMS.items() if key != "guidance"}
    (world.root / "params.yaml").write_text(yaml.safe_dump(params))
    done = typed(world.root, "guidance", "study")
    assert (done.returncode, len(done.stderr.strip().splitlines())) == (2, 1)
    assert "params.yaml has no guidance: describe a study there, as experiments/neural does" in done.stderr
