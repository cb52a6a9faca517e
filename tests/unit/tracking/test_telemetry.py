"""No program reports usage: neither ours, nor those that ours start, nor MLflow's UI in a browser."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import requests

from tests.conftest import REPOSITORY
from tests.team.processes import free_port, tied_to_us

pytestmark = pytest.mark.slow

# Where one of these is set, MLflow takes the process for a test and is silent whatever else is set.
TESTS = ("PYTEST_CURRENT_TEST", "CI", "GITHUB_ACTIONS", "GITLAB_CI", "CIRCLECI", "JENKINS_URL", "TRAVIS", "BUILDKITE")
OFF = {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}


def bare() -> dict[str, str]:
    """The environment of somebody who has set nothing."""
    ours = ("MLFLOW_", "DO_NOT_TRACK", "DVC_", "GX_", *TESTS)
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)}


@pytest.fixture
def ui(tmp_path):
    """`advalign ui` of a new project: its process, which leads a group, and its address."""
    (tmp_path / "params.yaml").write_text("{}\n")
    address = f"sqlite:///{tmp_path / 'given.db'}"
    port = free_port()
    command = tied_to_us([sys.executable, "-m", "advalign.cli.main", "ui", "--port", str(port)], "TERM")
    environment = {**bare(), "MLFLOW_TRACKING_URI": address}
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            command, cwd=tmp_path, env=environment, stdout=log, stderr=log, start_new_session=True
        )
    try:
        while not _answers(port):
            assert process.poll() is None, (tmp_path / "log").read_text()
            time.sleep(0.2)
        yield process, f"http://127.0.0.1:{port}", address
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _answers(port: int) -> bool:
    try:
        return requests.get(f"http://127.0.0.1:{port}/health", timeout=5).ok
    except requests.RequestException:
        return False


def processes(group: int) -> list[Path]:
    """Folders in /proc of a session's processes."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if os.getsid(int(folder.name)) == group:
                found.append(folder)
        except ProcessLookupError:
            continue
    return found


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="reads the environment of processes in /proc")
def test_the_ui_reports_nothing_and_tells_browsers_so(ui):
    process, address, store = ui
    started = processes(process.pid)
    commands = [(folder / "cmdline").read_bytes().replace(b"\0", b" ").decode() for folder in started]
    assert any("mlflow.server" in command for command in commands), commands
    assert not [command for command in commands if store in command]  # it may have a password
    for folder, command in zip(started, commands, strict=True):
        if "mlflow" in command or "uvicorn" in command:
            variables = dict(one.split("=", 1) for one in (folder / "environ").read_text().split("\0") if "=" in one)
            assert not [name for name in TESTS if name in variables]
            assert {name: variables.get(name) for name in OFF} == OFF, command
    told = requests.get(f"{address}/ajax-api/3.0/mlflow/ui-telemetry", timeout=60).json()
    assert told["disable_ui_telemetry"] is True
    event = {"event_name": "x", "timestamp_ns": 0, "params": {}, "installation_id": "x", "session_id": "x"}
    sent = requests.post(f"{address}/ajax-api/3.0/mlflow/ui-telemetry", json={"records": [event]}, timeout=60).json()
    assert sent == {"status": "disabled"}


def test_mlflow_and_dvc_are_silent_in_our_processes():
    code = """
import advalign.tracking.store
from mlflow.telemetry import get_telemetry_client
from mlflow.telemetry.utils import is_telemetry_disabled
print(is_telemetry_disabled(), get_telemetry_client())
"""
    done = subprocess.run([sys.executable, "-c", code], env=bare(), capture_output=True, text=True, check=False)
    assert done.stdout == "True None\n", done.stderr
    for experiment in (REPOSITORY, *REPOSITORY.glob("experiments/*/")):
        command = [sys.executable, "-m", "dvc", "config", "core.analytics"]
        told = subprocess.run(command, cwd=experiment, env=bare(), capture_output=True, text=True, check=True)
        assert told.stdout == "false\n", experiment
