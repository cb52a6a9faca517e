"""What would be trained: where each value comes from, what a recipe can use, and what makes another training."""

import json

import pytest
import yaml
from typer.testing import CliRunner

from advalign.cli.main import app
from advalign.closures import Closure
from advalign.errors import InputError
from advalign.files import Project
from advalign.settings import Training, TrainSettings, load_settings
from advalign.training.cost import estimate
from advalign.training.plan import as_published, plan, resolve
from tests.conftest import REPOSITORY

CHANGED = {
    "size": 48, "crop": 0.9, "epochs": 2, "batch_size": 8, "accumulate": 2, "optimiser": "sgd", "learning_rate": 1e-3,
    "weight_decay": 0.1, "schedule": "cosine", "warmup": 0.3, "decay_epochs": 3, "clip_norm": None,
    "label_smoothing": 0.1, "ema": 0.9, "augmentation": "crop", "flip": False, "shift": 1, "smallest_crop": 0.5,
    "color_jitter": 0.4, "three_augment": True, "mixup": 0.2, "cutmix": 1.0, "blur_maps": True, "precision": "bfloat16",
    "channels_last": True, "compile": True, "sync_batch_norm": True, "threads": 2,
}  # fmt: skip
FREE = {"workers": 3, "save_minutes": 1.0, "pictures": 0}
LISTED = {
    "model": "resnet18", "recipe": "robust", "arguments": {"drop_rate": 0.1},
    "overrides": {"constraint": "linf", "eps": "2/255", "steps": 3, "step_size": 0.01},
    "train": {"epochs": 90, "schedule": "cosine", "optimiser": "sgd", "warmup": 0.05, "precision": "bfloat16"},
}  # fmt: skip
NAME = "resnet18_linf_eps2_255"


@pytest.fixture
def settings(sample_root):
    return load_settings(sample_root)


@pytest.fixture
def lists(tmp_path):
    """A project without data that lists one training."""
    (tmp_path / "params.yaml").write_text((REPOSITORY / "params.yaml").read_text())
    (tmp_path / "registry").mkdir()
    project = Project(tmp_path)
    project.trainings.write_text(yaml.safe_dump({"trainings": {NAME: LISTED}}))
    return project


def test_a_training_s_values_lie_over_params_yaml(settings):
    training = Training(
        model="resnet18", recipe="robust", overrides={"steps": 5, "eps": 0.25}, train={"epochs": 3, "ema": 0.99}
    )
    recipe, train = resolve(settings, training)
    assert recipe.settings.model_dump() | {"steps": 5, "eps": 0.25, "ramp": 0.25} == recipe.settings.model_dump()
    assert train == settings.train.model_copy(update={"epochs": 3, "ema": 0.99})
    assert resolve(settings, Training(model="resnet18", recipe="robust"))[1] == settings.train
    smoothed = resolve(settings, training.model_copy(update={"train": {"label_smoothing": 0.2}}))[0]
    assert smoothed.label_smoothing == 0.2


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"recipe": "robst"}, "did you mean 'robust'"),
        ({"overrides": {"epss": 1}}, "recipe 'robust': unknown key 'epss'; did you mean 'eps'"),
        ({"overrides": {"eps": "2/0"}}, "recipe 'robust': eps: '2/0' divides by zero, got '2/0'"),
        ({"overrides": {"eps": "-1/255"}}, "recipe 'robust': eps: "),
        ({"overrides": {"eps": True}}, "recipe 'robust': eps: a number is wanted"),
        ({"train": {"epoch": 3}}, "train: unknown key 'epoch'; did you mean 'epochs'"),
        ({"train": {"epochs": 0}}, "train: epochs: "),
        ({"train": {"schedule": "cosin"}}, "train: schedule: "),
        ({"train": {"ema": 1.0}}, "train: ema: "),
        ({"train": {"warmup": 0}}, "train.warmup: the schedule onecycle rises first"),
        ({"train": {"precision": "float16"}}, "train: precision: "),
    ],
    ids=str,
)
def test_what_cannot_be_trained_is_refused_in_one_line(settings, change, says):
    with pytest.raises(InputError) as caught:
        resolve(settings, Training(**{"model": "resnet18", "recipe": "robust", **change}))
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("recipe", ["baseline", "robust", "harmonized", "combined"])
def test_a_double_backward_is_computed_in_float32_uncompiled_in_the_usual_layout(settings, recipe):
    fast = {"precision": "bfloat16", "channels_last": True, "compile": True}
    _, train = resolve(settings, Training(model="resnet18", recipe=recipe, train=fast))
    found = {name: getattr(train, name) for name in fast}
    assert found == (fast if recipe in ("baseline", "robust") else
                     {"precision": "float32", "channels_last": False, "compile": False})  # fmt: skip
    assert train.model_dump() | fast == settings.train.model_dump() | fast  # nothing else is touched


@pytest.mark.parametrize(
    ("overrides", "name"),
    [
        ({"constraint": "linf", "eps": "2/255"}, "resnet18_linf_eps2_255"),
        ({"constraint": "linf", "eps": "0.5/255"}, "resnet18_linf_eps0.5_255"),
        ({"constraint": "linf", "eps": 0.5 / 255}, "resnet18_linf_eps0.5_255"),
        ({"eps": "1/4"}, "resnet18_l2_eps0.25"),
        ({"eps": "0.25"}, "resnet18_l2_eps0.25"),
    ],
)
def test_a_radius_may_be_a_fraction(settings, overrides, name):
    recipe, _ = resolve(settings, Training(model="resnet18", recipe="robust", overrides=overrides))
    assert recipe.published_name("resnet18") == name
    assert isinstance(recipe.settings.eps, float)


def test_every_setting_is_known_to_this_test():
    assert set(CHANGED) | set(FREE) | {"images"} == set(TrainSettings.model_fields)


def test_the_identity_holds_all_that_the_weights_depend_on_and_nothing_else(project, settings, monkeypatch):
    code = ["code"]
    monkeypatch.setattr("advalign.training.plan.closure", lambda *_: Closure(frozenset(), {"code": code[0]}))
    monkeypatch.setattr("advalign.training.plan.check_input", lambda *_: None)  # builds a network each time

    def identity(seed=None, recipe="baseline", model="test_resnet", **values):
        return plan(project, settings, Training(model=model, recipe=recipe, **values), seed).identity

    same = identity()
    assert identity() == same == identity(0)
    assert identity(train=FREE) == same
    assert all(identity(train={name: value}) == same for name, value in FREE.items())
    train = {f"train {name}": identity(train={name: value}) for name, value in CHANGED.items()}
    others = {
        "seed": identity(1),
        "recipe": identity(recipe="harmonized"),
        "eps": identity(recipe="robust"),
        "other eps": identity(recipe="robust", overrides={"eps": 0.25}),
        "model": identity(model="test_vit"),
        "arguments": identity(arguments={"drop_rate": 0.1}),
    }
    found = {"same": same, **train, **others}
    assert len(set(found.values())) == len(found), "two trainings share an identity"
    assert identity(recipe="robust", overrides={"eps": "1/4"}) == others["other eps"]
    fast = {name: CHANGED[name] for name in ("precision", "channels_last", "compile")}
    assert identity(recipe="harmonized", train=fast) == others["recipe"]  # which cannot use them
    code[0] = "other code"
    assert identity() not in found.values()


@pytest.mark.parametrize(
    ("recipe", "group", "baseline"),
    [("baseline", "cnn", None), ("harmonized", "harmonized", "test_resnet.baseline"),
     ("robust", "robust", "test_resnet.baseline"), ("combined", "robust", "test_resnet.baseline")],
)  # fmt: skip
def test_a_plan_says_group_and_baseline(project, settings, recipe, group, baseline):
    planned = plan(project, settings, Training(model="test_resnet", recipe=recipe))
    assert (planned.group, planned.baseline) == (group, baseline)
    undeclared = plan(project, settings, Training(model="test_vit", recipe=recipe))
    assert undeclared.group == (None if recipe == "baseline" else group)


def test_a_plan_says_what_is_used(project, settings):
    training = Training(model="test_resnet", recipe="harmonized", overrides={"every": 3}, train={"compile": True})
    planned = plan(project, settings, training, 7)
    assert (planned.name, planned.seed) == ("test_resnet.harmonized", 7)
    assert planned.used() == {
        "recipe": {"lambda_1": 4.0, "every": 3},
        "train": {name: value for name, value in settings.train.model_dump().items() if name not in FREE},
    }
    assert planned.recipe_settings == planned.used()["recipe"]


def test_a_published_training_is_found_by_the_name_that_it_gives(lists, settings):
    typed = Training(model="resnet18", recipe="robust", overrides={"constraint": "linf", "eps": 2 / 255})
    found = as_published(lists, settings, typed)
    assert found.arguments == {"drop_rate": 0.1}
    assert found.overrides == LISTED["overrides"] | {"eps": 2 / 255}
    assert found.train == LISTED["train"]
    recipe, train = resolve(settings, found)
    assert recipe.published_name("resnet18") == NAME
    assert (recipe.settings.steps, recipe.settings.step_size, train.epochs, train.optimiser) == (3, 0.01, 90, "sgd")


def test_typed_values_lie_over_published_ones(lists, settings):
    typed = Training(
        model="resnet18", recipe="robust", train={"epochs": 2, "ema": 0.9},
        overrides={"constraint": "linf", "eps": "2/255", "steps": 1},
    )  # fmt: skip
    found = as_published(lists, settings, typed)
    assert found.overrides == LISTED["overrides"] | {"steps": 1}
    assert found.train == LISTED["train"] | {"epochs": 2, "ema": 0.9}


@pytest.mark.parametrize(
    "typed",
    [
        Training(model="resnet50", recipe="robust", overrides={"constraint": "linf", "eps": 2 / 255}),
        Training(model="resnet18", recipe="robust", overrides={"constraint": "linf", "eps": 4 / 255}),
        Training(model="resnet18", recipe="robust", overrides={"eps": 2 / 255}),
        Training(model="resnet18", recipe="combined", overrides={"constraint": "linf", "eps": 2 / 255}),
    ],
)
def test_what_is_not_listed_is_trained_as_it_is(lists, settings, typed):
    assert as_published(lists, settings, typed) is typed


def test_a_project_need_not_list_any(lists, settings):
    lists.trainings.unlink()
    typed = Training(model="resnet18", recipe="robust", overrides={"constraint": "linf", "eps": 2 / 255})
    assert as_published(lists, settings, typed) is typed


def test_a_typed_value_is_judged_beside_the_published_ones(lists, settings):
    """No warmup: not with params.yaml's onecycle, but with the listed cosine."""
    assert settings.train.schedule == "onecycle"
    typed = Training(
        model="resnet18", recipe="robust", overrides={"constraint": "linf", "eps": 2 / 255}, train={"warmup": 0}
    )
    found = as_published(lists, settings, typed)
    assert resolve(settings, found)[1].warmup == 0


def dry_run(project, monkeypatch, *words):
    monkeypatch.chdir(project.root)
    return CliRunner().invoke(app, ["train", *words, "--dry-run", "--json"])


@pytest.mark.parametrize(
    ("words", "recipe", "train"),
    [
        (["--set", "eps=2/255", "--set", "constraint=linf"], {"eps": 2 / 255, "constraint": "linf"}, {}),
        (["--set", "batch_size=8", "--set", "learning_rate=1e-3"], {}, {"batch_size": 8, "learning_rate": 1e-3}),
        (["--set", "clip_norm=null", "--set", "random_start=true"], {"random_start": True}, {"clip_norm": None}),
        (["--eps", "1/2", "--epochs", "3", "--set", "eps=0.25"], {"eps": 0.25}, {"epochs": 3}),
        (["--eps", "1/2", "--epochs", "3", "--set", "epochs=5"], {"eps": 0.5}, {"epochs": 5}),
    ],
)  # fmt: skip
def test_what_is_typed_lands_where_it_belongs(project, settings, monkeypatch, words, recipe, train):
    done = dry_run(project, monkeypatch, "robust", *words)
    assert done.exit_code == 0, done.output
    used = json.loads(done.stdout)["settings"]
    plain, shared = resolve(settings, Training(model="test_resnet", recipe="robust"))
    assert used["recipe"] == plain.settings.model_dump() | recipe
    assert used["train"] == shared.model_dump() | train


def test_a_published_training_is_used_unless_params_are_wanted(project, sample_root, monkeypatch, tmp_path):
    (tmp_path / "params.yaml").write_text((sample_root / "params.yaml").read_text())
    (tmp_path / "data").symlink_to(sample_root / "data")
    (tmp_path / "registry").mkdir()
    listed = {"model": "test_resnet", "recipe": "baseline", "train": {"epochs": 7, "schedule": "cosine"}}
    own = Project(tmp_path)
    own.trainings.write_text(yaml.safe_dump({"trainings": {"test_resnet.baseline": listed}}))

    def epochs(*words):
        done = dry_run(own, monkeypatch, "baseline", *words)
        assert done.exit_code == 0, done.output
        return json.loads(done.stdout)["settings"]["train"]["epochs"]

    assert epochs() == 7
    assert epochs("--epochs", "2") == epochs("--set", "epochs=2") == 2
    assert epochs("--settings", "params") == 1
    assert epochs("--model", "test_vit") == 1
    assert epochs("--set", "warmup=0") == 7


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["baseline", "--eps", "1"], "unknown setting of recipe baseline 'eps'"),
        (["robust", "--set", "stepss=1"], "did you mean 'steps'"),
        (["robust", "--set", "batchsize=1"], "did you mean 'batch_size'"),
        (["robust", "--set", "steps"], "--set: expected KEY=VALUE such as batch_size=128, got 'steps'"),
        (["robust", "--set", "=1"], "--set: expected KEY=VALUE"),
        (["robust", "--set", "steps=[1"], "--set: expected KEY=VALUE"),
        (["robust", "--set", "steps=many"], "recipe 'robust': steps: "),
        (["robust", "--set", "eps="], "recipe 'robust': eps: "),
        (["robust", "--set", "epochs=0"], "train: epochs: "),
    ],
)
def test_wrong_words_are_told_in_one_line(project, monkeypatch, words, says):
    error = dry_run(project, monkeypatch, *words).exception
    assert isinstance(error, InputError)
    assert says in str(error)
    assert "\n" not in str(error)


def test_a_deprecated_name_of_timm_is_planned_under_its_present_one(project, settings):
    planned = plan(project, settings, Training(model="tf_efficientnet_b0_ap", recipe="baseline"))
    assert planned.training.model == "tf_efficientnet_b0.ap_in1k"
    assert planned.name == "tf_efficientnet_b0.ap_in1k.baseline"
    assert planned.identity == plan(project, settings, planned.training).identity


@pytest.mark.parametrize("ask", [plan, estimate])
def test_an_input_that_the_network_cannot_take_is_refused_before_anything_starts(project, settings, ask):
    small = Training(model="vgg11", recipe="baseline", train={"size": 16})
    with pytest.raises(
        InputError, match=r"'vgg11' cannot be used with an image of 16 x 16 pixels: choose another size"
    ):
        ask(project, settings, small)
