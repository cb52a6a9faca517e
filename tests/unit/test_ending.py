"""How programs end: Ctrl-C, libraries that cannot be imported, errors of the system."""

import os
import subprocess
import sys

import pytest

from advalign.cli import main
from advalign.ending import run_to_end
from pipelines._stage import run_stage
from tests.conftest import REPOSITORY

GOES_ON = "advalign: error: interrupted; run the same command again to continue\n"


def python(*arguments: str, cwd, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), **variables}
    return subprocess.run(
        [sys.executable, *arguments], cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )


def interrupted(*_):
    raise KeyboardInterrupt


@pytest.mark.parametrize("kind", ["command", "stage"])
def test_ctrl_c_says_how_to_go_on(kind, project, monkeypatch, capsys):
    monkeypatch.chdir(project.root)
    monkeypatch.setattr("sys.argv", ["advalign", "doctor"])
    monkeypatch.setattr("advalign.workflows.health.examine", interrupted)
    with pytest.raises(SystemExit) as ended:
        main.run() if kind == "command" else run_stage(interrupted)
    assert (ended.value.code, capsys.readouterr().err) == (130, GOES_ON)


def test_a_stage_says_an_error_of_the_system_in_a_line(project, monkeypatch, capsys):
    def full(*_):
        raise OSError(28, "No space left on device", "outputs/x")

    monkeypatch.chdir(project.root)
    with pytest.raises(SystemExit) as ended:
        run_stage(full)
    said = "[Errno 28] No space left on device: 'outputs/x': fix that or name another place, and run again"
    assert (ended.value.code, capsys.readouterr().err) == (2, f"advalign: error: {said}\n")


@pytest.mark.parametrize(
    "raised", ["ValueError('bad value')", "OSError('libx.so: cannot open')", "ImportError('no x')"]
)
def test_a_library_that_raises_while_it_is_imported_is_named(raised, tmp_path, monkeypatch, capsys):
    (tmp_path / "broken_library.py").write_text(f"raise {raised}\n")
    monkeypatch.syspath_prepend(tmp_path)

    def action() -> None:
        import broken_library  # noqa: F401

    with pytest.raises(SystemExit) as ended:
        run_to_end(action)
    said = capsys.readouterr().err
    assert ended.value.code == 2
    assert said.startswith(
        f"advalign: error: the library broken_library cannot be imported ({raised.partition('(')[0]}: "
    )
    assert said.count("\n") == 1


def test_an_error_of_this_program_keeps_its_traceback():
    def action() -> None:
        raise ValueError("a fault")

    with pytest.raises(ValueError, match="a fault"):
        run_to_end(action)


@pytest.mark.slow
def test_a_list_of_threads_serves_and_nonsense_is_a_line(project):
    """OpenMP takes `4,2`: one number per level of nesting."""
    found = python("-m", "advalign.cli.main", "protocols", cwd=project.root, OMP_NUM_THREADS="4,2")
    assert (found.returncode, found.stderr) == (0, "")
    assert "fmn-fast" in found.stdout
    found = python("-c", "import pipelines.compare", cwd=project.root, OMP_NUM_THREADS="4,2")
    assert (found.returncode, found.stderr) == (0, "")
    found = python("-m", "advalign.cli.main", "doctor", cwd=project.root, OMP_NUM_THREADS="1", NUMEXPR_NUM_THREADS="x")
    assert found.returncode == 2
    assert "advalign: error: the library numexpr cannot be imported (ValueError: " in found.stderr
    assert "Traceback" not in found.stderr


@pytest.mark.slow
def test_python_without_docstrings_makes_no_noise(project):
    code = "import advalign.tracking.store; from advalign.cli.main import run; run()"
    found = python("-c", code, "protocols", cwd=project.root, PYTHONOPTIMIZE="2")
    assert (found.returncode, found.stderr) == (0, "")
    assert "fmn-fast" in found.stdout
