"""The command line: quick help that imports no framework, one line and the right code for wrong input."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import with_stimuli
from tests.pipeline.conftest import typed

REPOSITORY = Path(__file__).parents[2]
HEAVY = ("torch", "mlflow", "timm", "pandas", "numpy", "scipy", "great_expectations", "matplotlib", "pydantic")


def cli(*arguments: str, cwd: Path = REPOSITORY) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "NO_COLOR": "1"}
    command = [sys.executable, "-m", "advalign.cli.main", *arguments]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)


def test_help_lists_the_commands_and_imports_nothing_heavy():
    done = cli("--help")
    assert done.returncode == 0
    for command in ("data", "train", "evaluate", "compare", "registry", "publish", "ui", "doctor"):
        assert command in done.stdout
    code = (
        "import sys; sys.argv = ['advalign', '--help']\n"
        "from advalign.cli.main import run\n"
        "try: run()\n"
        "except SystemExit: pass\n"
        f"print(sorted(set({HEAVY!r}) & set(sys.modules)))"
    )
    listed = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert listed.stdout.strip().endswith("[]")


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        (["train", "robst"], "did you mean 'robust'?"),
        (["train", "robust", "--eps", "0"], "--eps: expected a radius above 0, got 0"),
        (["train", "robust", "--eps", "-1/255"], "--eps: expected a radius above 0"),
        (["train", "robust", "--eps", "big"], "expected a number such as 0.25 or 2/255, got 'big'"),
        (["train", "robust", "--eps", "nan"], "--eps: expected a number"),
        (["train", "robust", "--eps", "1/0"], "--eps: expected a number"),
        (["train", "robust", "--eps", "1_5"], "expected a number such as 0.25 or 2/255, got '1_5'"),
        (["train", "robust", "--constraint", "l3"], "constraint"),
        (["train", "baseline", "--eps", "1"], "unknown setting of recipe baseline 'eps'"),
        (["train", "robust", "--epochs", "many"], "--epochs"),
        (["train", "robust", "--device", "abacus"], "device 'abacus' cannot be used here"),
        (["train"], "Missing argument"),
        (["evaluate", "--protocol", "fnm"], "did you mean 'fmn' or 'fgsm'?"),
        (["evaluate", "--protocol", "feng2025-released-7"], "takes no budget"),
        (["evaluate", "--protocol", "fmn-0"], "steps"),
        (["evaluate", "--protocol", "pgd-20-8"], "write pgd-STEPS-linfEPS"),
        (["evaluate", "--protocol", "autoattack-8"], "write autoattack-linfEPS"),
        (["evaluate", "no_such_model"], "unknown model 'no_such_model'"),
        (["evaluate", "models:/nobody@candidate"], "unknown registered model 'nobody'"),
        (["compare", "--table", "absent.csv"], "absent.csv: cannot be read"),
        (["compare", "--protocol", "fmn-3"], "nothing is evaluated under protocol 'fmn-3' yet"),
        (["registry", "show", "nobody"], "unknown registered model 'nobody'"),
        (["no-such-command"], "No such command 'no-such-command'"),
        (["data", "sample", "--scale", "0"], "--scale"),
        (["data", "sample"], "is not empty"),
    ],
)
@pytest.mark.slow
def test_wrong_input_is_one_line_and_exit_2(small_outputs, arguments, wanted):
    done = typed(small_outputs, *arguments)
    assert done.returncode == 2, done.stderr
    assert wanted in done.stderr
    assert "Traceback" not in done.stderr
    assert len([line for line in done.stderr.splitlines() if line.startswith("advalign: error:")]) == 1


@pytest.mark.slow
def test_outside_a_project_it_says_so(tmp_path):
    done = typed(tmp_path, "registry", "list")
    assert done.returncode == 2
    assert "is not inside a project" in done.stderr


def test_missing_data_names_the_mend(tmp_path, sample_root):
    (tmp_path / "params.yaml").write_text((sample_root / "params.yaml").read_text())
    done = typed(tmp_path, "train", "baseline")
    assert done.returncode == 2
    assert "dvc pull data.dvc" in done.stderr
    assert not (tmp_path / "outputs").exists()


def test_unknown_key_in_params_is_named(tmp_path, sample_root):
    text = (sample_root / "params.yaml").read_text().replace("epochs:", "epocs:")
    (tmp_path / "params.yaml").write_text(text)
    done = typed(tmp_path, "train", "baseline")
    assert done.returncode == 2
    assert "unknown key 'epocs'; did you mean 'epochs'" in done.stderr


@pytest.mark.slow
def test_debug_shows_the_traceback():
    done = cli("--debug", "train", "robst")
    assert done.returncode != 0
    assert "Traceback" in done.stderr


@pytest.fixture(scope="session")
def small_outputs(tmp_path_factory, sample_root):
    """The tiny project with frozen stimuli, in a folder of its own."""
    return with_stimuli(sample_root, tmp_path_factory.mktemp("cli") / "project").root
