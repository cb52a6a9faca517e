"""A small project on which the whole road is walked once per worker: same code, tiny data, two trainings."""

import io
import os
import re
import shutil
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest
import yaml

from advalign.cli.main import run as advalign_command
from tests.pipeline.stages import forked_stages
from tests.team.processes import advalign as forked

REPOSITORY = Path(__file__).parents[2]
CODE = ("advalign", "pipelines", "registry", "docs", "dvc.yaml", "params.yaml", ".dvcignore", "pyproject.toml")
SMALL = {
    "stimuli": {"images_per_category": 1},
    "train": {"epochs": 2, "batch_size": 16, "threads": 1},
    "evaluate": {"protocol": "fmn-5", "shard_size": 12, "gallery": 3},
    "compare": {"bootstrap": 200},
}
GATES = {  # what two epochs on tiny data can show: that it was evaluated, on current data
    "champion": {"protocol": "fmn-5", "no_flags": False, "pareto_front": False, "bounds": {"n_valid": {"at_least": 1}}}
}
TRAININGS = ("test_resnet.baseline", "test_resnet.harmonized")
OURS = {"OMP_NUM_THREADS": "1", "NO_COLOR": "1"}
STORES = ("MLFLOW_TRACKING_URI", "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_REGISTRY_URI")


def environment() -> dict[str, str]:
    """The environment of commands: this interpreter's programs first, no store from outside, one thread."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    kept = {name: value for name, value in os.environ.items() if name not in STORES}
    return {**kept, "PATH": path, **OURS}


def run(root: Path, *command: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a command in a project and give back what it printed; its exit code is the caller's to check."""
    own = environment() | variables
    return subprocess.run(command, cwd=root, env=own, capture_output=True, text=True, check=False)


def reproduce(root: Path, *stages: str) -> subprocess.CompletedProcess[str]:
    """Run `dvc repro`, its stages forked from a process that has imported this repository's code."""
    with forked_stages({**dict.fromkeys(STORES), **OURS}) as folder:
        return run(root, "dvc", "repro", *stages, PATH=f"{folder}{os.pathsep}{environment()['PATH']}")


def program(root: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run `advalign WORDS` in a project in a process of its own, forked from one that has imported everything."""
    process = forked(root, {**dict.fromkeys(STORES), **OURS}, *words)
    return subprocess.CompletedProcess(words, process.wait(), process.printed(), process.errors())


def typed(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `advalign ...` in a project inside this process, which saves the seconds that imports take."""
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.chdir(root)
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        patch.setattr(sys, "argv", ["advalign", *arguments])
        try:
            advalign_command()
        except SystemExit as end:
            return subprocess.CompletedProcess(arguments, int(end.code or 0), out.getvalue(), err.getvalue())
    raise AssertionError("the command did not end")


def make_project(root: Path) -> Path:
    """Copy the code into a new DVC project without git, with tiny settings and tiny data."""
    root.mkdir(parents=True)
    for name in CODE:
        source = REPOSITORY / name
        if source.is_dir():
            shutil.copytree(source, root / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, root / name)
    settings = yaml.safe_load((root / "params.yaml").read_text())
    for section, values in SMALL.items():
        settings[section] |= values
    settings["trainings"] = {name: settings["trainings"][name] for name in TRAININGS}
    (root / "params.yaml").write_text(yaml.safe_dump(settings, sort_keys=False))
    (root / "registry" / "gates.yaml").write_text(yaml.safe_dump(GATES))
    assert run(root, "dvc", "init", "--no-scm", "-q").returncode == 0
    made = program(root, "data", "sample", "--scale", "0.01")
    assert made.returncode == 0, made.stderr
    assert run(root, "dvc", "add", "-q", "data").returncode == 0
    return root


def change_params(root: Path, section: str, **values: object) -> None:
    """Change a section of params.yaml."""
    settings = yaml.safe_load((root / "params.yaml").read_text())
    place = settings
    for part in section.split("/"):
        place = place[part]
    place |= values
    (root / "params.yaml").write_text(yaml.safe_dump(settings, sort_keys=False))


def stages_run(output: str) -> list[str]:
    """Names of the stages that a `dvc repro` ran, from what it printed."""
    return re.findall(r"Running stage '([^']+)'", output)


@pytest.fixture(scope="session")
def new(tmp_path_factory) -> Path:
    """A project that `dvc repro validate` is done of; to be copied."""
    root = make_project(tmp_path_factory.mktemp("pipeline") / "new")
    done = reproduce(root, "validate")
    assert done.returncode == 0, done.stdout + done.stderr
    return root


@pytest.fixture(scope="session")
def reproduced(new) -> Path:
    """A project after its first `dvc repro`."""
    root = shutil.copytree(new, new.with_name("project"))
    done = reproduce(root)
    assert done.returncode == 0, done.stdout + done.stderr
    return root
