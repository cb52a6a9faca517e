"""A torchvision network and a lab's own go the whole road: trained, evaluated, compared, registered, verified."""

import json
import re
import shutil
import sys

import pandas as pd
import pytest
import torch
import torchvision

import advalign
from advalign.data.classes import read_classes
from advalign.errors import InputError
from advalign.models.checkpoints import read_card
from advalign.models.declared import read_zoo
from advalign.models.origins.python import VARIABLE
from advalign.names import is_architecture
from tests.conftest import edit_card, with_stimuli
from tests.pipeline.conftest import REPOSITORY, change_params, typed

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("own-models")]

PAGE = (REPOSITORY / "docs" / "own-models.md").read_text()
PROTOCOL = "fmn-5"


@pytest.fixture(scope="module")
def project(sample_root, tmp_path_factory):
    """The tiny project with the page's own network, a zoo that names it, and a file of random weights."""
    project = with_stimuli(sample_root, tmp_path_factory.mktemp("own") / "project")
    change_params(project.root, "train", threads=1)
    change_params(project.root, "evaluate", protocol=PROTOCOL, also=[], shard_size=18, gallery=0)
    change_params(project.root, "compare", bootstrap=200)
    (code,) = re.findall(r"`mynet.py` in the root, say:\n\n```python\n(.*?)```", PAGE, re.DOTALL)
    (project.root / "mynet.py").write_text(code)
    (snippet,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    project.zoo.write_text(snippet)
    (project.root / "weights").mkdir()
    torch.manual_seed(0)
    classes = len(read_classes(project.data / "classes.yaml"))
    network = torchvision.models.squeezenet1_1(num_classes=classes)
    torch.save(network.state_dict(), project.root / "weights" / "squeezenet1_1.pth")
    yield project
    sys.modules.pop("mynet", None)


def done(project, *words):
    result = typed(project.root, *words)
    assert result.returncode == 0, result.stderr
    return result


@pytest.fixture(scope="module")
def trained(project):
    """Names of what was trained, by the command."""
    for model in ("torchvision:squeezenet1_1", "python:mynet:small"):
        done(project, "train", "baseline", "--model", model, "--epochs", "1")
    return ("squeezenet1_1.baseline", "small.baseline")


@pytest.fixture(scope="module")
def evaluated(project, trained):
    names = (*trained, "squeezenet", "mine")
    return json.loads(done(project, "evaluate", *names, "--workers", "1", "--json").stdout)


def rows_of(project, name):
    return pd.read_parquet(project.evaluations / PROTOCOL / f"{name}.parquet").drop(columns="model")


def test_the_pages_zoo_names_what_it_says(project):
    zoo = read_zoo(project.zoo)
    assert all(is_architecture(entry.architecture or name) for name, entry in zoo.models.items())
    assert zoo.standard_group("torchvision:squeezenet1_1") == "cnn"


def test_all_of_them_are_evaluated_and_compared(project, evaluated):
    assert [row["state"] for row in evaluated] == ["evaluated"] * 4
    compared = json.loads(done(project, "compare", "--json").stdout)
    assert {row["model"]: row["group"] for row in compared["models"]} == dict.fromkeys(
        (row["model"] for row in evaluated), "cnn"
    )


@pytest.mark.parametrize("name", ["squeezenet1_1.baseline", "small.baseline"])
def test_a_registered_version_gives_what_was_logged(name, project, evaluated):
    found = json.loads(done(project, "registry", "verify", name, "--json").stdout)
    assert found["holds"]
    assert found["identical"] == found["computed"] > 0


def test_a_card_alone_runs_nothing(project, evaluated, tmp_path, monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    folder = shutil.copytree(project.fetched / "mine", tmp_path / "foreign")
    edit_card(folder, name="foreign", architecture="python:this:main")
    refused = typed(project.root, "evaluate", str(folder))
    assert refused.returncode in (1, 2)
    monkeypatch.chdir(tmp_path)  # outside the project nothing is trusted, not even what its zoo names
    for place in (folder, project.fetched / "mine", project.runs / "small.baseline"):
        with pytest.raises(InputError, match=f"not trusted here.*{VARIABLE}="):
            advalign.load(str(place))


def test_trust_is_given_to_one_command(project, monkeypatch):
    monkeypatch.setenv(VARIABLE, "")  # and taken back after the test
    (project.root / "othernet.py").write_text((project.root / "mynet.py").read_text())
    words = ("train", "baseline", "--model", "python:othernet:small", "--dry-run")
    refused = typed(project.root, *words)
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
    assert "give --trust-code to evaluate or train" in refused.stderr
    assert "small.baseline" in done(project, *words, "--trust-code").stdout


def test_a_module_in_python_gives_the_rows_of_the_command(project, evaluated, monkeypatch):
    monkeypatch.chdir(project.root)
    name = "squeezenet1_1.baseline"
    model = advalign.load(str(project.runs / name))
    before = {key: value.clone() for key, value in model.state_dict().items()}
    found = advalign.evaluate(model, name="again", protocol=PROTOCOL)
    expected = rows_of(project, name)
    pd.testing.assert_frame_equal(found.rows.drop(columns="model"), expected)
    pd.testing.assert_frame_equal(rows_of(project, "again"), expected)
    summary = json.loads((project.evaluations / PROTOCOL / f"{name}.json").read_text())
    assert found.metrics == summary["metrics"]
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert all(one.requires_grad for one in model.parameters())
    written = (project.evaluations / PROTOCOL / "again.parquet").stat().st_mtime_ns
    advalign.evaluate(model, name="again", protocol=PROTOCOL)
    assert (project.evaluations / PROTOCOL / "again.parquet").stat().st_mtime_ns == written  # kept
    with pytest.raises(InputError, match="in Python and cannot be built again"):
        advalign.load(str(project.handed / "again"))


def test_a_module_that_computes_otherwise_is_evaluated_anew(project, evaluated, monkeypatch):
    monkeypatch.chdir(project.root)
    layers = [torch.nn.AdaptiveAvgPool2d(8), torch.nn.Flatten(), torch.nn.Linear(192, 36)]
    torch.manual_seed(1)
    plain = advalign.evaluate(torch.nn.Sequential(*layers).eval(), name="bare", protocol=PROTOCOL, limit=4)
    same_weights = torch.nn.Sequential(torch.nn.MaxPool2d(8), *layers[1:]).eval()
    other = advalign.evaluate(same_weights, name="bare", protocol=PROTOCOL, limit=4)
    assert len(other.rows) == 4
    assert not other.rows.equals(plain.rows)
    assert read_card(project.handed / "bare").architecture == "module:Sequential"
    with pytest.raises(InputError, match="one logit per class"):
        advalign.evaluate(torch.nn.Sequential(*layers[:2]).eval(), name="bare", protocol=PROTOCOL)
    with pytest.raises(InputError, match="training mode"):
        advalign.evaluate(torch.nn.Sequential(*layers).train(), name="bare", protocol=PROTOCOL)
