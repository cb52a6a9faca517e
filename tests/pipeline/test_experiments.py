"""Two experiments in one project: each has its own settings, data and results; registry and tracking store are one."""

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
import yaml

from advalign.closures import closure
from advalign.data.sets.stimuli import load_stimuli
from advalign.data.stimuli import freeze_stimuli, save_stimuli
from advalign.files import Project, sha256
from advalign.settings import load_settings
from advalign.tracking.store import EXPERIMENT, open_store
from tests.pipeline.conftest import REPOSITORY, change_params, make_project, run, typed
from tests.registered import evaluate, save_version

NAME = "test_resnet.baseline"
ROBUSTSIGHT = REPOSITORY / "experiments" / "robustsight"
FOLDERS = [path.parent for path in sorted((REPOSITORY / "experiments").glob("*/dvc.yaml"))]


def beside(stage, name, imported):
    """A stage of the root as it is in experiments/NAME: code and registry are two folders up; data may be imported."""
    shared = ("advalign/", "pipelines/", "registry/")
    fixed = json.loads(json.dumps(stage))
    inner = fixed.get("do", fixed)
    if "deps" in inner:
        inner["deps"] = [f"../../{path}" if path.startswith(shared) else path for path in inner["deps"]]
    if name in ("maps", "stimuli") and imported:
        inner["deps"].insert(1, "outputs/imported.txt")
    return fixed


@pytest.mark.parametrize("experiment", ["imagenet", "linsley2023"])
def test_an_experiment_on_stimuli_has_the_stages_of_the_root(experiment):
    folder = REPOSITORY / "experiments" / experiment
    root, own = (yaml.safe_load((place / "dvc.yaml").read_text()) for place in (REPOSITORY, folder))
    imported = own["stages"].pop("imported", None)
    assert (imported is None) == (folder / "data.dvc").is_file()  # data come from a remote, or are imported
    assert set(own["stages"]) == set(root["stages"])
    for name, stage in root["stages"].items():
        wanted = beside(stage, name, imported is not None)
        assert own["stages"][name] == wanted, f"{folder}/dvc.yaml: stage {name} is not the root's"
    assert own["plots"] == root["plots"]


def test_robustsight_trains_and_evaluates_as_the_root_without_stimuli():
    root, own = (yaml.safe_load((place / "dvc.yaml").read_text())["stages"] for place in (REPOSITORY, ROBUSTSIGHT))
    for name in ("train", "evaluate"):
        wanted = beside(root[name], name, imported=False)
        inner = wanted.get("do", wanted)
        inner["deps"] = [dep for dep in inner["deps"] if dep != "outputs/stimuli"]
        assert own[name] == wanted, name


def test_the_tables_of_robustsight_depend_on_the_code_that_makes_them():
    reached = closure("advalign.analysis.robustsight.report:write_robustsight").files
    told = yaml.safe_load((ROBUSTSIGHT / "dvc.yaml").read_text())["stages"]["tables"]["deps"]
    listed = [(ROBUSTSIGHT / dep).resolve() for dep in told]
    needed = {path for path in reached if path.parent.name != "advalign"}  # floor 0: params and identities hold it
    assert not [path for path in needed if not any(path.is_relative_to(dep) for dep in listed)]
    assert "../../pipelines/tables.py" in told


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_an_experiment_is_whole(folder):
    load_settings(folder)
    assert (folder / "README.md").is_file()
    assert (folder / ".dvc" / "config").is_file(), "without it, dvc in the root would list this experiment's stages too"


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """A project whose root has published a model, and experiments/second with other settings and no data yet."""
    root = make_project(tmp_path_factory.mktemp("two") / "project")
    change_params(root, "evaluate", protocol="fmn-fast", also=[])
    second = root / "experiments" / "second"
    second.mkdir(parents=True)
    template = REPOSITORY / "experiments" / "imagenet"
    shutil.copy(template / "dvc.yaml", second)
    (second / ".dvc").mkdir()
    (second / ".dvc" / "config").write_text((template / ".dvc" / "config").read_text() + "    no_scm = true\n")
    settings = yaml.safe_load((root / "params.yaml").read_text())
    settings["stimuli"] |= {"categories_per_superclass": 1}
    settings["evaluate"] |= {"protocol": "fmn-5"}
    (second / "params.yaml").write_text(yaml.safe_dump({**settings, "seed": 1, "trainings": {}}))
    project, values = Project(root), load_settings(root)
    save_stimuli(project, freeze_stimuli(project, values.stimuli, values.seed))
    save_version(project, NAME, 0)
    evaluate(project, NAME, pt=0.5, aa=0.25, accuracy=0.8)
    assert typed(root, "publish").returncode == 0
    return root, second


def held(folder: Path) -> dict[str, str]:
    """Every file below a folder with its digest."""
    return {str(path.relative_to(folder)): sha256(path) for path in folder.rglob("*") if path.is_file()}


@pytest.mark.slow
@pytest.mark.xdist_group("pipeline")
def test_commands_from_inside_an_experiment(two):
    root, second = two
    before = held(root / "outputs")

    lacking = run(second, "dvc", "repro", "validate")
    assert lacking.returncode != 0
    assert "data/classes.yaml is missing: `advalign data import` imports your own copies" in lacking.stderr
    shutil.copytree(root / "data", second / "data")
    frozen = run(second, "dvc", "repro", "stimuli")
    assert frozen.returncode == 0, frozen.stdout + frozen.stderr
    stimuli = load_stimuli(Project(second))
    assert 0 < len(stimuli) < len(load_stimuli(Project(root)))

    save_version(Project(second), NAME, 1)
    evaluated = typed(second, "evaluate", "--workers", "1", "--json")
    assert evaluated.returncode == 0, evaluated.stderr
    assert [row["model"] for row in json.loads(evaluated.stdout)] == [NAME]
    rows = pd.read_parquet(second / "outputs" / "evaluations" / "fmn-5" / f"{NAME}.parquet")
    assert rows["stimulus"].tolist() == stimuli.manifest["stimulus"].tolist()
    compared = typed(second, "compare")
    assert compared.returncode == 0, compared.stderr
    assert f"in {root}, then open" in compared.stdout
    assert pd.read_csv(second / "outputs" / "comparison" / "zoo.csv")["model"].tolist() == [NAME]
    published = [json.loads(typed(second, "publish", "--json").stdout)["created"] for _ in range(2)]
    assert published == [["human maps", f"run {NAME}", f"version {NAME}", "comparison"], []]

    assert "experiments" not in run(root, "dvc", "status").stdout  # an experiment's stages are its own affair
    assert held(root / "outputs") == before
    assert json.loads(typed(root, "publish", "--json").stdout)["created"] == []
    stores = {path.relative_to(root) for pattern in ("mlflow.db", "mlartifacts") for path in root.rglob(pattern)}
    assert {str(path) for path in stores} == {"mlflow.db", "mlartifacts"}
    assert not list(second.glob(".mlflow*.lock"))

    names = {
        kind: {run.info.run_name: run.data.tags[EXPERIMENT] for run in open_store(Project(root)).all_runs(kind)}
        for kind in ("train", "evaluate", "compare")
    }
    both = {NAME: "main", f"second/{NAME}": "second"}
    assert names == {"train": both, "evaluate": both, "compare": {"second/comparison": "second"}}

    versions = {row["version"]: row["tags"] for row in json.loads(typed(second, "registry", "list", "--json").stdout)}
    assert {number: tags[EXPERIMENT] for number, tags in versions.items()} == {1: "main", 2: "second"}
    assert float(versions[1]["fmn-fast.perturbation_tolerance"]) == 0.5
    assert [name for name in versions[1] if name.startswith("second/")] == []
    assert "second/fmn-5.perturbation_tolerance" in versions[2]
    assert [name for name in versions[2] if name.startswith("fmn-")] == []
    assert "protocol second/fmn-5" in typed(second, "registry", "list").stdout
    verified = json.loads(typed(second, "registry", "verify", NAME, "--json").stdout)
    assert (verified["label"], verified["holds"]) == (f"{NAME} version 2 under fmn-5", True)
