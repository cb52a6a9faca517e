"""`advalign guidance study`: areas with all their controls, trained, attacked and judged; what is finished is kept."""

import json
import re

import pandas as pd
import pytest
import torch

from advalign.files import Project
from advalign.models.checkpoints import read_card
from advalign.settings import load_settings
from advalign.workflows.guidance import Guidance, chosen, run_guidance
from advalign.workflows.simulated_responses import simulate
from tests.unit.workflows.guided_world import PARAMS, made, write_params

pytestmark = pytest.mark.slow

ARMS = {
    "none": "none", "none.learning_rate0.0001": "shorter", "simulated.class-code.V1": "class-code",
    **{f"simulated.{area}": "area" for area in ("V1", "V4", "IT")},
    **{f"simulated.{area}.shuffled": "shuffled" for area in ("V1", "V4", "IT")},
    **{f"simulated.{area}.within": "shuffled-within-class" for area in ("V1", "V4", "IT")},
    **{f"simulated.{area}.degraded.small": "degraded" for area in ("V1", "V4", "IT")},
    "random.test_resnet.guided": "random-net",
}  # fmt: skip
TWICE = {name for name, role in ARMS.items() if role in ("none", "shorter", "class-code", "area", "shuffled")}


def run(project):
    settings = load_settings(project.root)
    return run_guidance(project, settings, *chosen(settings, None), device="cpu")


@pytest.fixture(scope="module")
def studied(tmp_path_factory):
    """A project after a study, and its judgements."""
    threads = torch.get_num_threads()
    project = made(tmp_path_factory.mktemp("guidance"), scale=0.02)
    simulate(project, load_settings(project.root))
    yield project, run(project)
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def study(studied):
    return Guidance(studied[0].root, "small")


def test_every_arm_is_trained_over_its_seeds(study):
    table = pd.read_csv(study.folder / "models.csv")
    assert dict(zip(table["arm"], table["role"], strict=True)) == ARMS
    for arm, seeds in table.groupby("arm")["seed"]:
        assert sorted(seeds) == ([0, 1] if arm in TWICE else [0]), arm
    for arm in ARMS:
        card = read_card(study.models / f"{arm}.seed0")
        assert card.recipe == ("baseline" if arm.startswith("none") else "guided")
        own = table[(table["arm"] == arm) & (table["seed"] == 0)].iloc[0]
        assert own["accuracy"] == card.metrics["val_accuracy"]


def test_norms_are_those_of_the_rows(study):
    norms = pd.read_parquet(study.folder / "norms.parquet")
    for arm in ("none", "simulated.IT.shuffled"):
        rows = pd.read_parquet(study.evaluations / "norms.first6" / f"{arm}.seed1.parquet")
        own = norms[(norms["arm"] == arm) & (norms["seed"] == 1)]
        right = rows[rows["status"] == "ok"]
        assert dict(zip(own["image"], own["l2"], strict=True)) == dict(
            zip(right["image"], right["norm_l2"], strict=True)
        )


def test_the_verdict_says_what_it_rests_on(studied, study):
    (judgement,) = studied[1]
    told = json.loads((study.folder / "verdict.json").read_text())
    assert told["provenance"] == "simulated"
    assert told["norms"]["l2"]["sentences"] == judgement.sentences
    assert set(told["norms"]["l2"]["trends"]) == {"area", "shuffled", "degraded"}
    assert all("simulated" in one.sentence for one in (*judgement.areas, *judgement.trends))
    assert "Minimum norms are of the first 6 images." in told["notes"]
    page = (study.folder / "verdict.html").read_text()
    assert re.search(r"<dt>responses</dt><dd>simulated, SHA-256 [0-9a-f]{12}</dd>", page.replace("&#39;", ""))


def stamps(study):
    return {path: path.stat().st_mtime_ns for path in study.models.rglob("*.safetensors")}


def test_finished_models_are_kept_and_what_is_missing_is_made(studied, study):
    before = stamps(study)
    told = {name: (study.folder / name).read_bytes() for name in ("verdict.json", "models.csv", "norms.parquet")}
    for name in told:
        (study.folder / name).write_bytes(b"nobody reads this back")
    lost = study.models / "simulated.V4.shuffled.seed1" / "card.json"
    weights = lost.with_name("model.safetensors").read_bytes()
    lost.unlink()
    run(studied[0])
    after = stamps(study)
    changed = {path for path in after if after[path] != before[path]}
    assert {path.parent.name for path in changed} == {"simulated.V4.shuffled.seed1"}
    assert lost.with_name("model.safetensors").read_bytes() == weights
    assert {name: (study.folder / name).read_bytes() for name in told} == told


def test_another_study_shares_the_models_of_both(studied, study):
    project, _ = studied
    before = stamps(study)
    small = PARAMS["guidance"]["small"]
    second = {**small, "areas": ["V1", "IT"], "controls": ["shuffled"], "seeds": 1}
    write_params(project.root, guidance={"second": second})
    run(project)
    assert stamps(study) == before
    told = json.loads((Guidance(project.root, "second").folder / "verdict.json").read_text())
    assert told["norms"]["l2"]["sentences"][0].startswith(
        "V1 (simulated responses) cannot be judged: no class code is in"
    )
    write_params(project.root)


def test_an_unreliable_area_is_named_and_not_trained(tmp_path):
    """V1 of a file is noise alone."""
    project = made(tmp_path, scale=0.02)
    simulation = {**PARAMS["simulation"], "areas": {"V1": "gabor-energy"}, "ceiling": 1e-6}
    own = {**PARAMS["guidance"]["small"], "areas": ["V1"], "controls": [], "seeds": 1, "shorter": []}
    write_params(project.root, simulation=simulation, guidance={"noise": own})
    simulate(Project(project.root), load_settings(project.root))
    (judgement,) = run(project)
    assert judgement.sentences[0].startswith(
        "V1 (simulated responses) is no finding: the reliability of the area is not above zero (split-half "
    )
    assert {path.name for path in (project.root / "outputs/guidance/models").iterdir()} == {"none.seed0"}
