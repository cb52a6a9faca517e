"""SIGKILL in the middle of the pipeline: the end is the same as undisturbed.

One training alone is killed in test_training_kill.py, one evaluation of many models in test_zoo_kill.py; here it is
DVC and its stages.
"""

import os
import random
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pandas as pd
import pytest

from tests.pipeline.conftest import TRAININGS, environment, reproduce

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("pipeline")]

MOMENTS = [  # after a file has appeared, at most so many seconds: between two stages, in a training, in an evaluation
    (f"checkpoints/{TRAININGS[0]}/card.json", 2.0),
    (f"resume/{TRAININGS[1]}.*.pt", 0.05),
    ("evaluations/**/shards/*/[!.]*.parquet", 0.5),
]


def results(root: Path) -> dict[str, object]:
    """What a run ends in: weights' bytes and rows, per model."""
    found: dict[str, object] = {}
    for name in TRAININGS:
        found[name] = (root / "outputs" / "checkpoints" / name / "model.safetensors").read_bytes()
        found[f"{name}.rows"] = pd.read_parquet(root / "outputs" / "evaluations" / "fmn-5" / f"{name}.parquet")
    found["zoo"] = pd.read_csv(root / "outputs" / "comparison" / "zoo.csv")
    return found


def kill_after(root: Path, file: str, seconds: float) -> None:
    """Start `dvc repro`, kill its whole process group some time after a file below outputs/ has appeared."""
    process = subprocess.Popen(
        ["dvc", "repro"], cwd=root, env=environment(), start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    while not list((root / "outputs").glob(file)):
        assert process.poll() is None, f"it ended before {file} was written"
        time.sleep(0.02)
    time.sleep(seconds)
    assert process.poll() is None, f"it ended before it was killed after {file}"
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def test_killed_runs_end_as_an_undisturbed_one(new, reproduced, tmp_path):
    killed = shutil.copytree(new, tmp_path / "killed")
    chance = random.Random(7)
    for file, longest in MOMENTS:
        kill_after(killed, file, chance.uniform(0, longest))
    done = reproduce(killed)
    assert done.returncode == 0, done.stdout + done.stderr

    expected, found = results(reproduced), results(killed)
    for name, value in expected.items():
        if isinstance(value, pd.DataFrame):
            pd.testing.assert_frame_equal(found[name], value, check_exact=True)
        else:
            assert found[name] == value, f"{name} differs"
    leftovers = [path for path in (killed / "outputs" / "evaluations").rglob("*.parquet") if path.name[0] != "."]
    assert len(leftovers) == 3 * len(TRAININGS)  # each model's rows under two protocols and its predictions
