"""Guided trainings: the head is trained, is in states and not in checkpoints; what must be there, and identity."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from advalign.data.hdf5 import sealed_hdf5
from advalign.errors import AdvalignError, DataError, InputError
from advalign.files import Project
from advalign.recipes.guided import Guided
from advalign.recipes.manifold_guided import ManifoldGuided
from advalign.settings import Training, TrainSettings, load_settings
from advalign.training.optimisation import create_optimiser
from advalign.training.plan import plan, resolve
from advalign.training.train import train
from tests.tiny_recipes import told
from tests.tiny_responses import write_responses
from tests.tiny_training import PER_EPOCH, Watcher, assert_same, fit, state

torch.set_num_threads(1)
RECIPES = [
    told(Guided(Guided.Settings())),
    told(Guided(Guided.Settings(loss="cka"))),
    told(ManifoldGuided(ManifoldGuided.Settings())),
]
every_recipe = pytest.mark.parametrize("recipe", RECIPES, ids=["guided", "cka", "manifold-guided"])


@every_recipe
@pytest.mark.parametrize("values", [{}, {"ema": 0.9}, {"precision": "bfloat16"}, {"optimiser": "sgd"}], ids=str)
def test_a_training_that_was_cut_off_ends_in_the_same_bits(tmp_path, recipe, values):
    """Twice in the middle of an epoch; the head of the resumed training has other weights at first."""
    whole = fit(tmp_path / "whole", recipe, **values)
    whole.run([])
    for weights, stop in ((0, PER_EPOCH + 2), (8, 3 * PER_EPOCH - 1)):
        with pytest.raises(KeyboardInterrupt):
            fit(tmp_path / "cut", recipe, weights=weights, save_minutes=1e-9, **values).run([Watcher(stop)])
    resumed = fit(tmp_path / "cut", recipe, weights=9, **values)
    if len(resumed.learned):
        with torch.no_grad():
            next(resumed.learned.parameters()).zero_()
    assert resumed.run([]) == whole.history
    assert_same(state(resumed), state(whole))
    assert_same(resumed.learned.state_dict(), whole.learned.state_dict())


def test_the_head_is_trained_with_the_network(tmp_path):
    trained = fit(tmp_path, told(Guided(Guided.Settings())), epochs=12)
    before = {name: value.clone() for name, value in trained.learned.state_dict().items()}
    assert list(before) == ["neural.weight", "neural.bias"]
    first = [parameter.clone() for parameter in trained.classifier.network.parameters()]
    history = trained.run([])
    assert history[-1]["neural_term"] < 0.9 * history[0]["neural_term"]
    assert all(not torch.equal(value, before[name]) for name, value in trained.learned.state_dict().items())
    assert any(
        not torch.equal(one, two) for one, two in zip(first, trained.classifier.network.parameters(), strict=True)
    )
    saved = torch.load(tmp_path / "state.pt", weights_only=True)
    assert_same(saved["learned"], dict(trained.learned.state_dict()))
    assert not any("neural" in name for name in saved["network"])


def test_other_recipes_learn_nothing_of_their_own(tmp_path):
    trained = fit(tmp_path)
    assert len(trained.learned) == 0
    assert not hasattr(trained.classifier, "learned")


class Choosy(nn.Module):
    def __init__(self):
        super().__init__()
        self.kept, self.layer = nn.Parameter(torch.ones(2, 2)), nn.Linear(2, 2)

    def no_weight_decay(self):
        return {"kept"}


def test_what_a_network_does_not_want_decayed_is_not_decayed_beside_a_head():
    network, head = Choosy(), nn.ModuleDict({"neural": nn.Linear(2, 3)})
    optimiser = create_optimiser(network, TrainSettings(weight_decay=0.1), head)
    decayed = {id(value) for group in optimiser.param_groups if group["weight_decay"] for value in group["params"]}
    every = {id(value) for group in optimiser.param_groups for value in group["params"]}
    assert decayed == {id(network.layer.weight), id(head["neural"].weight)}
    assert every == {id(value) for module in (network, head) for value in module.parameters()}


@pytest.fixture
def project(sample_root, tmp_path):
    """The tiny project, with responses to half of its training images."""
    shutil.copytree(sample_root, tmp_path / "project", ignore=shutil.ignore_patterns("outputs"))
    project = Project(tmp_path / "project")
    write_responses(project, every=2)
    return project


V4 = {"responses": "brain", "roi": "V4"}


def planned(project, recipe="guided", seed=None, train=(), **overrides):
    training = Training(model="test_resnet", recipe=recipe, overrides={**V4, **overrides}, train=dict(train))
    return plan(project, load_settings(project.root), training, seed)


@pytest.mark.parametrize("recipe", ["guided", "manifold-guided"])
def test_a_checkpoint_has_no_head_and_its_card_says_what_guided_it(project, recipe, capsys):
    one = planned(project, recipe, train={"epochs": 2})
    card = train(project, one, project.runs / "guided", list, device="cpu")
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "guided by" in line]
    images, of = one.targets.told["images"], one.targets.told["of"]
    assert images == (of + 1) // 2
    dimensions = one.targets.values.shape[1]
    assert line.endswith(f"responses brain, area V4: {dimensions} dimensions, {images} of {of} images")
    assert "guided by simulated responses" in line
    baseline = plan(project, load_settings(project.root), Training(model="test_resnet", recipe="baseline"))
    train(project, baseline, project.runs / "plain", list, device="cpu")
    weights = [load_file(project.runs / name / "model.safetensors") for name in ("guided", "plain")]
    assert {name: value.shape for name, value in weights[0].items()} == {
        name: value.shape for name, value in weights[1].items()
    }
    written = json.loads((project.runs / "guided" / "card.json").read_text())
    assert written["settings"]["responses"] == card.settings["responses"] == one.targets.told
    assert one.targets.told["provenance"] == "simulated"
    assert card.name == f"test_resnet.{recipe.replace('-', '.')}.brain.v4"
    assert not list(project.resume.glob("*.pt"))


def test_the_identity_holds_the_responses_and_every_setting(project):
    same = planned(project).identity
    others = {
        "area": planned(project, roi="IT"),
        "control": planned(project, control="shuffled"),
        "alpha": planned(project, alpha=0.5),
        "seed": planned(project, seed=1),
        "recipe": planned(project, "manifold-guided"),
    }
    identities = {name: one.identity for name, one in others.items()}
    assert planned(project).identity == same
    write_responses(project, every=2, seed=1)
    identities["other responses"] = planned(project).identity
    write_responses(project, every=2, provenance="predicted")
    identities["other provenance"] = planned(project).identity
    assert len({same, *identities.values()}) == 1 + len(identities)


@pytest.mark.parametrize(
    ("recipe", "overrides", "train_settings", "says"),
    [
        ("guided", {"responses": None}, {}, "responses is null, expected a set of responses: give brain"),
        ("manifold-guided", {"roi": "V5"}, {}, "unknown area of brain 'V5'"),
        ("guided", {"roi": None}, {}, "has several areas: give one of 'V4', 'IT'"),
        ("guided", {}, {"mixup": 0.2}, "recipe 'guided': a mixed image has no brain response: set mixup and cutmix"),
        ("manifold-guided", {}, {"cutmix": 1.0}, "a mixed image has no brain response"),
        ("manifold-guided", {}, {"accumulate": 2}, "compares images of a whole batch: set accumulate to 1, got 2"),
        ("guided", {"loss": "cka"}, {"accumulate": 2}, "compares images of a whole batch"),
    ],
)
def test_what_is_missing_is_said_before_the_start(project, recipe, overrides, train_settings, says):
    with pytest.raises(InputError) as caught:
        planned(project, recipe, train=train_settings, **overrides)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_responses_to_other_images_are_refused(project, sample_root):
    path = project.data / "responses" / "brain.h5"
    with sealed_hdf5(path, "r+") as file:
        file["images/sha256"][...] = [b"0" * 64] * len(file["images/sha256"])
    with pytest.raises(DataError, match="none of its"):
        planned(project)


def test_a_layer_that_is_not_there_is_named_before_the_first_step(project):
    with pytest.raises(AdvalignError, match="has no layer 'layer9': it has conv1"):
        train(project, planned(project, guided_layer="layer9"), project.runs / "x", list, device="cpu")


def test_a_loss_that_reads_layers_is_not_compiled_and_may_be_in_bfloat16(project):
    fast = {"precision": "bfloat16", "channels_last": True, "compile": True}
    for recipe in ("guided", "manifold-guided"):
        _, found = resolve(load_settings(project.root), Training(model="resnet18", recipe=recipe, train=fast))
        assert {name: getattr(found, name) for name in fast} == {**fast, "compile": False}
