"""The documented commands where people really work: odd names of folders, poor environments, no git and no home."""

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.pipeline.conftest import STORES
from tests.pipeline.test_docs import COMMANDS
from tests.team.processes import advalign

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("pipeline")]

FOLDER = "a b%20c?\u00fc#"
POOR = {
    "LC_ALL": "C",
    "LANG": None,
    "FORCE_COLOR": "1",
    "NO_COLOR": None,
    "COLUMNS": "80",
    "OMP_NUM_THREADS": "4,2",  # OpenMP's: threads at each level of nesting
    "HOME": None,
    "PATH": str(Path(sys.executable).parent),  # no git
    **dict.fromkeys(STORES),
}
AFRESH = [  # these begin a Python of their own: what is imported, and workers, see the environment too
    "advalign evaluate test_resnet.baseline --protocol fmn-4 --limit 6 --workers 2",
    "advalign train baseline --epochs 1 --set workers=2",
    "advalign doctor",
    "dvc repro --single-item --force stimuli validate compare publish",
]


@pytest.fixture(scope="module")
def strange(reproduced, tmp_path_factory):
    """The reproduced project in a folder of an odd name, and what is poor around it."""
    root = tmp_path_factory.mktemp("strange") / FOLDER
    left_out = shutil.ignore_patterns("mlflow.db", "mlartifacts", "regenerated")
    shutil.copytree(reproduced, root, ignore=left_out)
    temporary = tmp_path_factory.mktemp("temporary") / ("x" * 60) / ("y" * 60)  # too long for the address of a socket
    temporary.mkdir(parents=True)
    variables = {**POOR, "TMPDIR": str(temporary)}
    published = advalign(root, variables, "publish")
    assert published.wait() == 0, published.errors()
    return root, variables


def afresh(root, variables, words):
    """Run a command in an interpreter of its own, which says where text is read or written in the locale's encoding."""
    told = variables | {"PYTHONWARNDEFAULTENCODING": "1"}
    kept = {name: value for name, value in os.environ.items() if name not in told}
    environment = kept | {name: value for name, value in told.items() if value is not None}
    return subprocess.run(words, cwd=root, env=environment, capture_output=True, text=True, encoding="utf-8")


@pytest.mark.parametrize("command", [*COMMANDS, *(pytest.param(one, id=f"afresh: {one}") for one in AFRESH)])
def test_documented_command_works_anywhere(strange, command):
    root, variables = strange
    words = shlex.split(command)
    if words[-1] == "regenerated":
        words += ["--scale", "0.01"]
    if words[0] == "advalign" and command not in AFRESH:
        process = advalign(root, variables, *words[1:])
        code, errors = process.wait(), process.errors()
    else:
        done = afresh(root, variables, words)
        code, errors = done.returncode, done.stderr
    assert code == 0, errors
    assert "Traceback" not in errors
    told = [line for line in errors.splitlines() if "EncodingWarning" in line]
    assert not [line for line in told if "/advalign/" in line or "/pipelines/" in line]
