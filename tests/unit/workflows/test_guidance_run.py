"""A study of guided models in MLflow: what its runs hold, that they are made once, and that damage is noticed."""

import json
import shutil

import pandas as pd
import pytest

from advalign.analysis.guidance.page import write_guidance
from advalign.errors import DataError, InputError
from advalign.files import Project
from advalign.settings import load_settings
from advalign.tracking.results import Published
from advalign.tracking.store import open_store
from advalign.workflows.guidance import Guidance, chosen
from advalign.workflows.guidance_run import STUDY, publish_guidance
from advalign.workflows.publish import publish_all
from tests.conftest import save_untrained
from tests.tiny_training import classifier
from tests.unit.analysis.guidance.guidance_made_up import study
from tests.unit.workflows.guided_world import PARAMS, write_params

LEVELS = {"none": 1.0, "code": 1.2, "V1": 1.3, "V4": 1.5, "IT": 1.7, "IT shuffled": 1.0}
MODELS = [f"{arm}.seed{seed}" for arm in LEVELS for seed in range(3)]


@pytest.fixture(scope="module", autouse=True)
def own_store():
    """The project's own, whichever store an earlier test used: MLflow keeps its address in the environment."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        yield


@pytest.fixture(scope="module")
def made(tmp_path_factory, sample_root):
    """A project with the files of a study, whose models are untrained, and its runs."""
    project = Project(tmp_path_factory.mktemp("studied"))
    shutil.copytree(sample_root / "data", project.data)
    write_params(project.root)
    (project.root / "registry").mkdir()
    found = Guidance(project.root, "first")
    write_guidance(found.folder, study(LEVELS, seeds=3), resamples=200, seed=0, facts={})
    save_untrained(project, "model", classifier())
    saved = project.checkpoints / "model"
    for name in MODELS:
        shutil.copytree(saved, found.models / name)
    shutil.rmtree(saved)
    done = publish_all(project, open_store(project))
    assert sorted(done.created) == sorted(f"guidance {name}" for name in ("first", *MODELS))
    return project, found


@pytest.fixture
def runs(made):
    found = open_store(made[0]).find_runs("guidance", {STUDY: "first"}, finished=True)
    return {run.info.run_name: run for run in found}


def test_the_verdict_and_every_model_have_a_run(made, runs):
    project, found = made
    assert set(runs) == {"first", *MODELS}
    assert {run.data.tags["advalign.responses"] for run in runs.values()} == {"simulated"}
    files = {one.path for one in open_store(project).client.list_artifacts(runs["first"].info.run_id)}
    assert files == {path.name for path in found.folder.iterdir()} >= {"verdict.html", "verdict.json", "figures"}


def test_the_verdicts_run_has_its_sentences_trends_and_differences(made, runs):
    told = json.loads((made[1].folder / "verdict.json").read_text())["norms"]["l2"]
    data = runs["first"].data
    assert data.tags["advalign.verdict.l2"] == " ".join(told["sentences"])
    assert "IT (simulated responses) helps" in data.tags["advalign.verdict.l2"]
    assert (
        data.metrics["l2.area.trend_p"] == told["trends"]["area"]["p"] == pytest.approx(1 / 6**3)
    )  # orders of 3, 3 blocks
    assert data.metrics["l2.IT.class_code"] == pytest.approx(0.5, abs=0.03)
    assert data.metrics["l2.IT.class_code_ci_low"] < data.metrics["l2.IT.class_code"]
    assert data.metrics["linf.IT.shuffle"] == pytest.approx(10 * data.metrics["l2.IT.shuffle"])


def test_a_models_run_has_its_row_and_its_training(made, runs):
    data = runs["IT shuffled.seed1"].data
    assert {name: data.params[name] for name in ("arm", "role", "area", "seed", "recipe")} == {
        "arm": "IT shuffled", "role": "shuffled", "area": "IT", "seed": "1", "recipe": "baseline",
    }  # fmt: skip
    assert (data.tags["advalign.area"], data.tags["advalign.model"]) == ("IT", "IT shuffled.seed1")
    norms = pd.read_parquet(made[1].folder / "norms.parquet")
    own = norms[(norms["arm"] == "IT shuffled") & (norms["seed"] == 1)]
    assert data.metrics == pytest.approx(
        {"accuracy": 0.9, "tolerance_l2": own["l2"].mean(), "tolerance_linf": own["linf"].mean()}
    )
    assert "advalign.area" not in runs["none.seed0"].data.tags


def test_publishing_again_makes_nothing_and_puts_back_what_is_lost(made, runs):
    project, _ = made
    store, done = open_store(project), Published()
    shutil.rmtree(runs["V1.seed2"].info.artifact_uri.removeprefix("file://"))
    publish_guidance(project, store, "first", done)
    assert (done.created, done.mended, done.present) == ([], ["guidance V1.seed2"], len(runs))


def test_an_edited_verdict_is_left_out(made):
    project, found = made
    path = found.folder / "verdict.json"
    content = path.read_bytes()
    path.write_bytes(content.replace(b'"seed": 1', b'"seed": 2', 1))
    try:
        with pytest.raises(DataError, match="run `advalign guidance study first` again"):
            publish_guidance(project, open_store(project), "first", Published())
        (told,) = publish_all(project, open_store(project)).left_out
        assert "verdict.json is damaged, was edited" in told
    finally:
        path.write_bytes(content)


@pytest.mark.parametrize("name", ["models", "evaluations"])
def test_a_study_cannot_have_the_name_of_a_folder_of_all_studies(tmp_path, name):
    write_params(tmp_path, guidance={name: PARAMS["guidance"]["small"]})
    with pytest.raises(InputError, match=f"outputs/guidance/{name} is for the {name} of all studies; rename the study"):
        chosen(load_settings(tmp_path), name)
