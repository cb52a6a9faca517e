"""What README and docs tell a user to type works, and the examples of new entries are entries."""

import json
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


PROTOCOLS = ("straight-line", "agreement", "fmn-fast-corners")
TYPED = """
import io, json, sys
from contextlib import redirect_stdout
from advalign.cli.main import run
said = []
for words in json.loads(sys.argv[1]):
    sys.argv, out = ["advalign", *words], io.StringIO()
    try:
        with redirect_stdout(out):
            run()
    except SystemExit as end:
        said.append([int(end.code or 0), out.getvalue()])
print(json.dumps(said))
"""


def typed_in_its_code(root, *commands):
    """Run commands with the code that the project holds, one after the other, in one process; what each printed."""
    done = run(root, sys.executable, "-c", TYPED, json.dumps(commands), PYTHONPATH=str(root))
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout.splitlines()[-1])
    assert [code for code, _ in said] == [0] * len(commands), done.stderr
    return [printed for _, printed in said]


def test_example_entries_are_found_and_run(reproduced, tmp_path):
    root = copy_of(reproduced, tmp_path / "extended")
    assert len(EXAMPLES) == 7
    for name, code in EXAMPLES.items():
        (root / name).write_text(code)
    settings = yaml.safe_load((root / "params.yaml").read_text())
    corners = {"fmn-fast-corners": {"attack": "fmn-fast", "image_set": "corners", "settings": {"budget": "fast"}}}
    metrics = [*settings["evaluate"]["metrics"], "median-tolerance"]
    change_params(root, "evaluate", metrics=metrics, protocols=corners)
    name, zoo = "test_resnet.noisy0.1", root / "outputs" / "comparison" / "zoo.csv"
    *_, shown, _, _ = typed_in_its_code(
        root,
        *(("train", recipe, "--epochs", "1") for recipe in ("noisy", "unsure")),
        *(("evaluate", name, "--protocol", protocol, "--workers", "1", "--json") for protocol in PROTOCOLS),
        ("protocols", "--json"),
        ("compare", "--protocol", "straight-line"),
        ("compare", "--table", str(zoo)),
    )
    assert "confidence_term" in pd.read_csv(root / "outputs" / "runs" / "test_resnet.unsure" / "history.csv")
    folder = root / "outputs" / "evaluations"
    rows = pd.read_parquet(folder / "straight-line" / f"{name}.parquet")
    valid = rows[rows["status"] == "ok"]
    found = {one: json.loads((folder / one / f"{name}.json").read_text())["metrics"] for one in PROTOCOLS}
    assert found["straight-line"]["median_tolerance"] == pytest.approx(valid["norm_l2"].median())
    assert (valid["queries"] <= 3 + 10).all()
    for protocol, number in (("agreement", "mirror_agreement"), ("fmn-fast-corners", "perturbation_tolerance")):
        assert 0 < found[protocol][number] < 10
        assert "adversarial_human_alignment" not in found[protocol]
    assert {*PROTOCOLS} <= {row["protocol"] for row in json.loads(shown)}
    table = pd.read_csv(zoo).set_index("model")
    assert table.loc[name, ["group", "baseline"]].tolist() == ["noisy", "test_resnet.baseline"]
