"""`advalign ui`: says its address once it answers there, and one line where it cannot."""

import os
import signal
import socket
import subprocess
import sys

import pytest

from tests.pipeline.conftest import typed
from tests.team.processes import free_port


@pytest.fixture
def root(tmp_path):
    (tmp_path / "params.yaml").write_text("{}\n")
    return tmp_path


def test_a_port_that_is_taken_is_one_line(root):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = typed(root, "ui", "--port", port)
    assert (done.returncode, done.stdout) == (2, "")
    line = f"nobody can listen on 127.0.0.1, port {port} (Address already in use): name another --port"
    assert line in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("host", ["203.0.113.7", "no.such.invalid"])
def test_an_address_of_another_machine_is_one_line(root, host):
    done = typed(root, "ui", "--host", host, "--port", str(free_port()))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"advalign: error: nobody can listen on {host}, port ")


def obey_ctrl_c():
    """Also where these tests run in the background, for which a shell makes processes ignore Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.slow
def test_it_says_its_address_once_it_answers_and_ctrl_c_ends_it(root):
    port = free_port()
    command = [sys.executable, "-m", "advalign.cli.main", "ui", "--port", str(port)]
    environment = {name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"}
    pipes = {"stdout": subprocess.PIPE, "text": True, "preexec_fn": obey_ctrl_c}
    with subprocess.Popen(command, cwd=root, env=environment, **pipes) as ui:
        told = next(line for line in ui.stdout if line.startswith("MLflow UI"))
        assert told == f"MLflow UI on http://127.0.0.1:{port} (Ctrl-C ends it)\n"
        socket.create_connection(("127.0.0.1", port)).close()
        ui.send_signal(signal.SIGINT)
        assert ui.wait() == 0
    with pytest.raises(OSError):
        socket.create_connection(("127.0.0.1", port))
