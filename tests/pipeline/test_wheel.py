"""What `pip install` puts on a machine without the repository: a project is made there, and models are measured."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from advalign.new_project import TEMPLATE, without_repository, write_project
from tests.pipeline.conftest import REPOSITORY, typed

PAGE = REPOSITORY / "docs" / "own-models.md"
BUILT_FROM = ("advalign", "pipelines", "registry", "pyproject.toml", "README.md", "LICENSE", "params.yaml", "dvc.yaml",
              "data.dvc", ".gitignore", ".dvcignore")  # fmt: skip
NOTEBOOK = """
import sys
import torch
from pathlib import Path
from safetensors.torch import load_file
torch.manual_seed(0)
tensors = load_file(next(Path("outputs/stimuli").glob("*.safetensors")))
images, human_maps = (next(value for value in tensors.values() if value.ndim == dims)[:4] for dims in (4, 3))
images = images.float() / (255 if images.max() > 1 else 1)
model = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(8), torch.nn.Flatten(), torch.nn.Linear(192, 2)).eval()
labels = model(images).argmax(1)
{example}
assert set(found.status) == {{"ok"}}, found.status
assert Path(advalign.__file__).is_relative_to({site!r}), advalign.__file__
assert not {{"mlflow", "dvc"}} & set(sys.modules)
"""


def names_below(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_a_new_project_is_what_the_repository_has(tmp_path):
    written = write_project(tmp_path / "new")
    assert names_below(tmp_path / "new") == {path.as_posix() for path in written}
    same = {"params.yaml", "data.dvc", ".gitignore", ".dvcignore"}
    same |= {f"registry/{name}" for name in names_below(REPOSITORY / "registry")}
    assert {path.as_posix() for path in written} == same | {"dvc.yaml", "requirements.txt", "README.md"}
    for name in same:
        assert (tmp_path / "new" / name).read_bytes() == (REPOSITORY / name).read_bytes(), name
    pipeline = (tmp_path / "new" / "dvc.yaml").read_text()
    assert pipeline == without_repository((REPOSITORY / "dvc.yaml").read_text())


def test_a_new_pipeline_depends_on_nothing_that_a_new_project_lacks(tmp_path):
    write_project(tmp_path / "new")
    stages = yaml.safe_load((tmp_path / "new" / "dvc.yaml").read_text())["stages"]
    for name, stage in stages.items():
        for dependency in stage.get("do", stage)["deps"]:
            there = (
                dependency == "data" or dependency.startswith("outputs/") or (tmp_path / "new" / dependency).exists()
            )
            assert there, f"{name} depends on {dependency}"
        assert "requirements.txt" in stage.get("do", stage)["deps"], name


def test_init_writes_into_nothing_that_is_there(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / ".git").mkdir()
    assert typed(tmp_path, "init", "mine").returncode == 0
    before = names_below(tmp_path)
    for place in ("mine", "mine/params.yaml"):
        done = typed(tmp_path, "init", place)
        assert done.returncode == 2
        assert done.stderr.count("\n") == 1
        assert "name an empty or new folder" in done.stderr
    assert names_below(tmp_path) == before


def test_the_template_has_no_name_that_dvc_would_take_for_a_pipeline():
    assert not [path for path in TEMPLATE.rglob("*") if path.name == "dvc.yaml" or path.suffix == ".dvc"]


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """A folder with the installed wheel alone."""
    root = tmp_path_factory.mktemp("wheel")
    (root / "source").mkdir()
    for name in BUILT_FROM:  # built in a copy: a build leaves folders behind
        source, place = REPOSITORY / name, root / "source" / name
        if source.is_dir():
            left_out = shutil.ignore_patterns("__pycache__", "*.egg-info")
            shutil.copytree(source, place, symlinks=True, ignore=left_out)
        else:
            shutil.copy(source, place)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]
    wheel = ["wheel", "--no-deps", "--no-build-isolation", "--no-index", "-w", str(root), str(root / "source")]
    subprocess.run([*pip, *wheel], check=True, capture_output=True)
    (built,) = root.glob("advalign-*.whl")
    subprocess.run([*pip, "install", "--no-deps", "--no-index", "--target", str(root / "site"), str(built)], check=True)
    shutil.rmtree(root / "source")
    return root / "site"


@pytest.mark.slow
def test_an_installed_wheel_makes_a_project_and_measures_there(site, tmp_path):
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW", "PYTHON"))}
    environment = {**kept, "PYTHONPATH": str(site), "NO_COLOR": "1", "OMP_NUM_THREADS": "1"}

    def run(folder, *command):
        done = subprocess.run(
            [sys.executable, *command], cwd=folder, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    run(tmp_path, "-m", "advalign.cli.main", "init", "mine")
    mine = tmp_path / "mine"
    write_project(tmp_path / "here" / "mine")
    assert names_below(mine) == names_below(tmp_path / "here" / "mine")
    for name in names_below(mine):  # what the wheel carries is what the repository has
        assert (mine / name).read_bytes() == (tmp_path / "here" / "mine" / name).read_bytes(), name
    run(mine, "-m", "advalign.cli.main", "data", "sample", "--scale", "0.01")
    assert "stimuli, digest" in run(mine, "-m", "pipelines.stimuli")
    (example,) = re.findall(r"```python\n(import advalign\n.*?)```", PAGE.read_text(), re.DOTALL)
    assert run(mine, "-c", NOTEBOOK.format(example=example, site=str(site))).count("tensor(") == 2
    assert not (mine / "mlflow.db").exists()
