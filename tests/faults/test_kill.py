"""SIGKILL in the middle of the pipeline: the end is the same as undisturbed.

One training alone is killed in test_training_kill.py, one evaluation of many models in test_zoo_kill.py; here it is
DVC and its stages.
"""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

from tests.pipeline.conftest import TRAININGS, environment, make_project, run

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("kill")]

KILLS = 2


def results(root: Path) -> dict[str, object]:
    """What a run ends in: weights' bytes and rows, per model."""
    found: dict[str, object] = {}
    for name in TRAININGS:
        found[name] = (root / "outputs" / "checkpoints" / name / "model.safetensors").read_bytes()
        found[f"{name}.rows"] = pd.read_parquet(root / "outputs" / "evaluations" / "fmn-5" / f"{name}.parquet")
    found["zoo"] = pd.read_csv(root / "outputs" / "comparison" / "zoo.csv")
    return found


def kill_after(root: Path, seconds: float) -> bool:
    """Start `dvc repro`, kill its whole process group after some seconds; whether it was still running."""
    process = subprocess.Popen(
        ["dvc", "repro"], cwd=root, env=environment(), start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return True
    return False


def test_killed_runs_end_as_an_undisturbed_one(tmp_path):
    calm = make_project(tmp_path / "calm")
    begun = time.monotonic()
    assert run(calm, "dvc", "repro").returncode == 0
    duration = time.monotonic() - begun

    killed = make_project(tmp_path / "killed")
    moments = random.Random(7)
    hit = sum(kill_after(killed, moments.uniform(0.15, 0.4) * duration) for _ in range(KILLS))
    assert hit == KILLS  # both together are shorter than the whole
    done = run(killed, "dvc", "repro")
    assert done.returncode == 0, done.stdout + done.stderr

    expected, found = results(calm), results(killed)
    for name, value in expected.items():
        if isinstance(value, pd.DataFrame):
            pd.testing.assert_frame_equal(found[name], value, check_exact=True)
        else:
            assert found[name] == value, f"{name} differs"
    leftovers = [path for path in (killed / "outputs" / "evaluations").rglob("*.parquet") if path.name[0] != "."]
    assert len(leftovers) == 3 * len(TRAININGS)  # each model's rows under two protocols and its predictions


def test_workers_end_with_their_killed_parent(tmp_path):
    """A worker whose parent is gone must not wait for ever."""
    script = tmp_path / "parent.py"
    script.write_text(
        "import os, time\n"
        "from concurrent.futures import ProcessPoolExecutor\n"
        "from multiprocessing import get_context\n"
        "from advalign.evaluation.engines.local import _begin\n"
        "if __name__ == '__main__':\n"
        "    context = get_context('spawn')\n"
        "    pool = ProcessPoolExecutor(1, mp_context=context, initializer=_begin, initargs=(context.Queue(),))\n"
        "    print(pool.submit(os.getpid).result(), flush=True)\n"
        "    time.sleep(600)\n"
    )
    process = subprocess.Popen(
        [sys.executable, str(script)], stdout=subprocess.PIPE, text=True, env=environment(), cwd=tmp_path
    )
    assert process.stdout is not None
    worker = int(process.stdout.readline())
    assert Path(f"/proc/{worker}").exists()
    process.kill()
    process.wait()
    deadline = time.monotonic() + 20
    while Path(f"/proc/{worker}").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not Path(f"/proc/{worker}").exists()
