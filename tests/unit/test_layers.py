"""The layer rules guard a file from the moment when it appears: nothing has to be listed."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
FRESH = {
    "advalign/fresh.py": "",
    "advalign/attacks/fresh.py": "import great_expectations, mlflow, ray, robustness, timm, torchvision\n",
    "advalign/data/fresh.py": "import timm\nimport great_expectations\n",
    "advalign/metrics/fresh.py": "import advalign.attacks.fresh\n",
    "advalign/tensors/fresh.py": "import advalign.data.fresh\n",
    "advalign/tracking/fresh.py": "import mlflow\n",
    "pipelines/fresh.py": "import mlflow.entities\n",
}
REFUSED = {
    "advalign.attacks.fresh -> mlflow",
    "advalign.attacks.fresh -> great_expectations",
    "advalign.attacks.fresh -> robustness",
    "advalign.attacks.fresh -> ray",
    "advalign.attacks.fresh -> timm",
    "advalign.attacks.fresh -> torchvision",
    "advalign.data.fresh -> timm",
    "advalign.metrics.fresh -> advalign.attacks.fresh",
    "advalign.tensors.fresh -> advalign.data.fresh",
    "pipelines.fresh -> mlflow",
}


def test_a_new_file_is_guarded_without_being_listed(tmp_path):
    for package in ("advalign", "pipelines"):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / ".importlinter", tmp_path)
    for name, text in FRESH.items():
        (tmp_path / name).write_text(text)
    command = [Path(sys.executable).with_name("lint-imports"), "--no-cache"]
    quiet = {**os.environ, "PYTHONPATH": str(tmp_path), "COLUMNS": "200"}
    done = subprocess.run(command, cwd=tmp_path, env=quiet, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stdout + done.stderr
    lines = [line.strip(" -") for line in done.stdout.splitlines() if " -> " in line]
    assert {line.partition(" (l.")[0] for line in lines} == REFUSED
    assert "The following modules are not listed as layers:\n\n- advalign.fresh\n" in done.stdout
