"""`advalign checkpoint`: out and in again by the command line, ending in the store as a training does."""

import json
import shutil

import pytest
import torch

from advalign.data.classes import read_classes
from advalign.files import Project, sha256
from advalign.models.checkpoints import CARD, WEIGHTS, load_checkpoint, read_card
from advalign.models.classifier import Classifier, Preprocessing
from advalign.models.zoo import create_network
from advalign.tracking.store import open_store
from advalign.workflows.publish import publish_all
from tests.conftest import save_untrained
from tests.pipeline.conftest import typed

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("checkpoint-command")]

DATA = "0123456789abcdef.dir"


@pytest.fixture(scope="module")
def project(sample_root, tmp_path_factory):
    """The tiny project, tracked by DVC as far as a file says so, with one checkpoint that has no history."""
    project = Project(shutil.copytree(sample_root, tmp_path_factory.mktemp("command") / "project"))
    (project.root / "data.dvc").write_text(f"outs:\n- md5: {DATA}\n  path: data\n")
    classes = len(read_classes(project.data / "classes.yaml").entries)
    preprocessing = Preprocessing(input_size=32, mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6))
    torch.manual_seed(0)
    save_untrained(project, "mine", Classifier(create_network("test_resnet", classes, 32, {}), preprocessing))
    return project


@pytest.fixture(scope="module")
def weights(project):
    """The checkpoint as the robustness package would have saved it."""
    done = typed(project.root, "checkpoint", "export", "mine", "theirs.ckpt")
    assert (done.returncode, done.stdout, done.stderr) == (0, "mine: weights written to theirs.ckpt\n", "")
    return project.root / "theirs.ckpt"


def logits(folder):
    pixels = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        return load_checkpoint(folder)[0](pixels)


@pytest.fixture(scope="module")
def imported(project, weights):
    """What the import printed."""
    words = ("--model", "test_resnet", "--size", "32", "--license", "MIT", "--recipe", "robust", "--json")
    done = typed(project.root, "checkpoint", "import", str(weights), "--name", "test_resnet_l2_eps3", *words)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_an_import_is_a_checkpoint_and_a_registered_candidate(project, weights, imported):
    folder = project.runs / "test_resnet_l2_eps3"
    card = read_card(folder)
    assert torch.equal(logits(folder), logits(project.checkpoints / "mine"))
    assert (imported["checkpoint"], imported["version"]) == ("outputs/runs/test_resnet_l2_eps3", 1)
    assert (card.recipe, card.license) == (imported["recipe"], imported["license"]) == ("robust", "MIT")
    assert (
        (card.group, card.baseline) == (imported["group"], imported["baseline"]) == ("robust", "test_resnet.baseline")
    )

    store = open_store(project)
    version = store.client.get_model_version_by_alias(card.name, "candidate")
    assert version.tags["advalign.weights_sha256"] == sha256(folder / WEIGHTS) == imported["weights_sha256"]
    assert version.tags["advalign.imported_from"] == "theirs.ckpt"
    assert "dvc.data.md5" not in version.tags  # it was not trained on this data
    run = store.client.get_run(version.run_id)
    assert (run.info.status, run.data.metrics) == ("FINISHED", {})
    assert run.data.tags["advalign.imported_from"] == "theirs.ckpt"
    assert run.data.tags["dvc.data.md5"] == ""
    assert [file.path for file in store.client.list_artifacts(run.info.run_id)] == [CARD]


def test_the_same_import_again_changes_nothing_and_says_the_version(project, weights, imported):
    words = ("--model", "test_resnet", "--size", "32", "--license", "MIT", "--recipe", "robust")
    done = typed(project.root, "checkpoint", "import", "theirs.ckpt", "--name", "test_resnet_l2_eps3", *words)
    assert done.stdout == (
        "test_resnet_l2_eps3: imported from theirs.ckpt; checkpoint outputs/runs/test_resnet_l2_eps3, "
        "models:/test_resnet_l2_eps3@candidate is version 1\n"
    )
    assert publish_all(project, open_store(project)).created == ["run mine", "version mine"]  # the other one


@pytest.mark.parametrize("model", ["mine", "outputs/checkpoints/mine", "models:/test_resnet_l2_eps3@candidate"])
def test_a_model_is_named_as_evaluate_names_it(model, project, imported):
    done = typed(project.root, "checkpoint", "export", model, "again.pth", "--replace")
    assert done.returncode == 0, done.stderr
    state = torch.load(project.root / "again.pth", weights_only=True)
    expected = load_checkpoint(project.checkpoints / "mine")[0].network.state_dict()
    assert state.keys() == expected.keys()
    assert all(torch.equal(state[name], value) for name, value in expected.items())


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["export", "mine", "theirs.ckpt"], "theirs.ckpt exists: replace it with --replace, or name another file"),
        (["export", "mine", "theirs.h5"], "'theirs.h5': the suffix decides the format, expected .ckpt, .pth, .pt, "
                                          ".safetensors: rename it"),
        (["export", "mien", "theirs.pt"], "unknown model 'mien'; did you mean 'mine'?"),
        (["export", "models:/nobody@candidate", "theirs.pt"], "unknown registered model 'nobody'"),
        (["import", "absent.ckpt", "--name", "net"], "absent.ckpt is missing or not a file: name a file of weights "
                                                     "(.safetensors, .pth, .pt, .ckpt)"),
        (["import", "theirs.ckpt", "--name", "net"], "'net' is not listed in registry/zoo.yaml: name its architecture "
                                                     "(--model ARCH)"),
        (["import", "theirs.ckpt", "--name", "net", "--model", "test_resnet"],
         "'net' is not listed in registry/zoo.yaml: say how it was trained (--recipe; by others: pretrained)"),
        (["import", "theirs.ckpt", "--name", "net", "--model", "test_resnet", "--recipe", "robst"],
         "unknown recipe 'robst'; did you mean 'robust'"),
        (["import", "theirs.ckpt", "--name", "../net"], "'../net' cannot name a model: "),
        (["import", "theirs.ckpt", "--name", "mine", "--model", "test_resnet"],
         "outputs/checkpoints/mine was not imported and is not replaced: import under another name"),
        (["import", "params.yaml", "--name", "net", "--model", "test_resnet", "--recipe", "robust"], "params.yaml "),
        (["import", "theirs.ckpt"], "Missing option '--name'."),
        (["import", "theirs.ckpt", "--name", "net", "--size", "0"], "Invalid value for '--size': "),
    ],
)  # fmt: skip
def test_wrong_input_is_one_line_exit_2_and_no_file(words, says, project, weights):
    before = {path: path.stat().st_mtime_ns for path in project.root.rglob("*") if path.is_file()}
    done = typed(project.root, "checkpoint", *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"advalign: error: {says}")
    assert len(done.stderr.splitlines()) == 1
    after = {path: path.stat().st_mtime_ns for path in project.root.rglob("*") if path.is_file()}
    assert {path for path in {*before, *after} if before.get(path) != after.get(path)} <= {
        path for path in after if path.name.endswith((".lock", "mlflow.db"))
    }
