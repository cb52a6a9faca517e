"""What README and docs tell a user to type works, and the examples of new entries are entries."""

import re
import shlex
import shutil
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml

from tests.extending import EXAMPLES
from tests.pipeline.conftest import REPOSITORY, change_params, program, run, typed

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("pipeline")]

PAGES = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```sh\n(.*?)^```", re.MULTILINE | re.DOTALL)  # blocks marked `sh once` are for a person
COMMANDS = [
    pytest.param(line.split("#")[0].strip(), id=f"{page.stem}: {line.strip()}")
    for page in PAGES
    for block in BLOCK.findall(page.read_text())
    for line in block.splitlines()
    if line.strip()
]


def copy_of(reproduced: Path, root: Path) -> Path:
    """A copy of the reproduced project with a tracking store of its own: these tests change what they run in."""
    left_out = shutil.ignore_patterns("mlflow.db", "mlartifacts", "regenerated")
    shutil.copytree(reproduced, root, ignore=left_out)
    published = program(root, "publish")
    assert published.returncode == 0, published.stderr
    return root


@pytest.fixture(scope="module")
def documented(reproduced, tmp_path_factory) -> Path:
    """Where the documented commands are typed, one after the other."""
    return copy_of(reproduced, tmp_path_factory.mktemp("documented") / "project")


@pytest.mark.parametrize("command", COMMANDS)
def test_documented_command_works(documented, command):
    words = shlex.split(command)
    if words[-1] == "regenerated":
        words += ["--scale", "0.01"]
    done = typed(documented, *words[1:]) if words[0] == "advalign" else run(documented, *words)
    assert done.returncode == 0, done.stderr


def test_links_lead_somewhere():
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_example_entries_are_found_and_run(reproduced, tmp_path):
    root = copy_of(reproduced, tmp_path / "extended")
    assert len(EXAMPLES) == 7
    for name, code in EXAMPLES.items():
        (root / name).write_text(code)
    settings = yaml.safe_load((root / "params.yaml").read_text())
    change_params(root, "evaluate", metrics=[*settings["evaluate"]["metrics"], "median-tolerance"])
    program = (sys.executable, "-m", "advalign.cli.main")
    for recipe in ("noisy", "unsure"):
        trained = run(root, *program, "train", recipe, "--epochs", "1")
        assert trained.returncode == 0, trained.stderr
    assert "confidence_term" in pd.read_csv(root / "outputs" / "runs" / "test_resnet.unsure" / "history.csv")
    attacked = run(root, *program, "evaluate", "test_resnet.noisy0.1", "--protocol", "straight-line", "--workers", "1")
    assert attacked.returncode == 0, attacked.stderr
    folder = root / "outputs" / "evaluations" / "straight-line"
    rows = pd.read_parquet(folder / "test_resnet.noisy0.1.parquet")
    valid = rows[rows["status"] == "ok"]
    summary = yaml.safe_load((folder / "test_resnet.noisy0.1.json").read_text())
    assert summary["metrics"]["median_tolerance"] == pytest.approx(valid["norm_l2"].median())
    assert (valid["queries"] <= 3 + 10).all()
    corners = {"fmn-fast-corners": {"attack": "fmn-fast", "image_set": "corners", "settings": {"budget": "fast"}}}
    change_params(root, "evaluate", protocols=corners)
    for protocol, number in (("agreement", "mirror_agreement"), ("fmn-fast-corners", "perturbation_tolerance")):
        asked = run(root, *program, "evaluate", "test_resnet.noisy0.1", "--protocol", protocol, "--json")
        assert asked.returncode == 0, asked.stderr
        found = yaml.safe_load((root / f"outputs/evaluations/{protocol}/test_resnet.noisy0.1.json").read_text())
        assert 0 < found["metrics"][number] < 10
        assert "adversarial_human_alignment" not in found["metrics"]
    shown = run(root, *program, "protocols", "--json")
    assert {"straight-line", "agreement", "fmn-fast-corners"} <= {
        row["protocol"] for row in yaml.safe_load(shown.stdout)
    }
    compared = run(root, *program, "compare", "--protocol", "straight-line")
    assert compared.returncode == 0, compared.stderr
    table = pd.read_csv(root / "outputs" / "comparison" / "zoo.csv").set_index("model")
    assert table.loc["test_resnet.noisy0.1", ["group", "baseline"]].tolist() == ["noisy", "test_resnet.baseline"]
    read_back = run(root, *program, "compare", "--table", "outputs/comparison/zoo.csv")
    assert read_back.returncode == 0, read_back.stderr
