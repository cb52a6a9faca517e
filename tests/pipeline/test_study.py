"""`advalign study`: a grid of both remedies, trained, attacked and judged; what is finished is kept."""

import json
import shutil

import pandas as pd
import pytest

from tests.pipeline.conftest import typed

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("pipeline")]

GRID = ("study", "--lambda-1", "0,4", "--eps", "0,1", "--set", "epochs=1", "--limit", "12")
CELLS = {
    "test_resnet.lambda0.eps0": "baseline",
    "test_resnet.lambda4.eps0": "harmonized",
    "test_resnet.lambda0.eps1": "robust",
    "test_resnet.lambda4.eps1": "combined",
}
VALUES = {
    "baseline": {},
    "harmonized": {"lambda_1": 4},
    "robust": {"eps": 1},
    "combined": {"lambda_1": 4, "eps": 1},
}


@pytest.fixture(scope="module")
def studied(reproduced, tmp_path_factory):
    """A copy of the reproduced project after a study, with what the command printed."""
    root = tmp_path_factory.mktemp("study") / "project"
    shutil.copytree(reproduced, root, ignore=shutil.ignore_patterns("mlflow.db", "mlartifacts"))
    done = typed(root, *GRID)
    assert done.returncode == 0, done.stderr
    return root, done.stdout


def files(root, *parts):
    return sorted(path.relative_to(root).as_posix() for path in root.joinpath(*parts).rglob("*") if path.is_file())


def test_every_cell_is_trained_with_its_recipe_and_evaluated(studied):
    root, printed = studied
    folder = root / "outputs/studies/test_resnet"
    table = pd.read_csv(folder / "study.csv")
    assert dict(zip(table["name"], table["remedy"], strict=True)) == CELLS
    for name, remedy in CELLS.items():
        card = json.loads((folder / "models" / name / "card.json").read_text())
        assert (card["name"], card["recipe"]) == (name, remedy)
        assert card["settings"]["recipe"].items() >= VALUES[remedy].items()
        assert VALUES[remedy].keys() == card["settings"]["recipe"].keys() & {"lambda_1", "eps"}
        assert card["settings"]["train"]["epochs"] == 1
        rows = pd.read_parquet(folder / "evaluations/fmn-5.first12" / f"{name}.parquet")
        valid = rows[rows["status"] == "ok"]
        pt = table.loc[table["name"] == name, "pt"].item()
        assert (len(valid) == 0 and pd.isna(pt)) or pt == pytest.approx(valid["norm_l2"].mean())
    found = json.loads((folder / "study.json").read_text())
    assert found["protocol"] == "fmn-5.first12"
    assert found["answer"] in printed.replace("\n", " ")
    assert {entry["parent"] for entry in found["against_parents"]} == {list(CELLS)[1], list(CELLS)[2]}
    assert (folder / "study.png").read_bytes().startswith(b"\x89PNG")


def test_the_zoo_and_the_registry_do_not_know_its_cells(studied, reproduced):
    root, _ = studied
    assert files(root, "outputs", "evaluations") == files(reproduced, "outputs", "evaluations")
    assert files(root, "outputs", "runs") == files(reproduced, "outputs", "runs")
    listed = typed(root, "registry", "list", "--json")
    assert listed.returncode == 0
    assert "lambda" not in listed.stdout


def test_a_second_study_keeps_what_is_finished_and_a_wider_one_adds(studied):
    root, printed = studied
    weights = {path: path.stat().st_mtime_ns for path in root.glob("outputs/studies/*/models/*/model.safetensors")}
    again = typed(root, *GRID)
    assert again.returncode == 0, again.stderr
    assert again.stdout == printed
    assert {path: path.stat().st_mtime_ns for path in weights} == weights
    as_json = typed(root, *GRID, "--json")
    assert {cell["name"] for cell in json.loads(as_json.stdout)["cells"]} == set(CELLS)


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (("--eps", "1,1"), "--eps: expected different numbers such as 0,1,4, got '1,1'"),
        (("--lambda-1", "0,-1"), "--lambda-1: expected different numbers such as 0,1,4, got '0,-1'"),
        (("--eps", "0,x"), "--eps: expected different numbers such as 0,1,4, got '0,x'"),
        (("--eps", "inf"), "--eps: expected different numbers such as 0,1,4, got 'inf'"),
        (("--model", "test_resnett"), "unknown model 'test_resnett'; did you mean 'test_resnet'"),
        (("--set", "epoch=1"), "train: unknown key 'epoch'; did you mean 'epochs'"),
        (("--protocol", "fnm"), "fnm"),
    ],
)
def test_wrong_input_is_one_line_and_nothing_is_trained(studied, options, line):
    root, _ = studied
    before = files(root, "outputs", "studies")
    done = typed(root, "study", *options)
    assert done.returncode == 2
    assert line in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert files(root, "outputs", "studies") == before
