"""Weights in foreign formats: exported and imported, they compute the same logits; what does not fit is refused."""

import pickle
import sys
import types

import dill
import pytest
import timm
import torch
import yaml
from safetensors import safe_open
from safetensors.torch import load_file
from torch import nn

from advalign.errors import DataError, InputError
from advalign.files import Project
from advalign.models.checkpoints import CARD, HISTORY, WEIGHTS, ClassCard, load_checkpoint, read_card, save_checkpoint
from advalign.models.classifier import Classifier, Preprocessing
from advalign.models.exchange import Stated, export_weights, import_weights, imported_from, read_normaliser
from advalign.models.zoo import create_network

torch.set_num_threads(1)

DECISIONS = ("inanimate", "animate")
IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
OWN = {"mean": (0.1, 0.25, 0.4), "std": (0.3, 0.5, 0.7)}
ZOO = {
    "architectures": {"test_resnet": "cnn"},
    "models": {
        "listed_l2_eps1": {
            "group": "robust",
            "architecture": "test_resnet",
            "license": "BSD",
            "preprocessing": {"input_size": 32, "crop": 0.5, "interpolation": "nearest"},
        },
        "said_l2_eps1": {"group": "robust", "architecture": "test_resnet", "preprocessing": {"mean": [0.5, 0.5, 0.5]}},
    },
}


def classes_of(count):
    return tuple(ClassCard(wnid=f"n{index:08}", name=f"class {index}", decision=index % 2) for index in range(count))


def pixels(size=32):
    return torch.rand(3, 3, size, size, generator=torch.Generator().manual_seed(1))


def logits(folder, size=32):
    with torch.no_grad():
        return load_checkpoint(folder)[0](pixels(size))


def checkpoint(folder, architecture="test_resnet", classes=5, size=32, train=None, **preprocessing):
    """A checkpoint with weights and running statistics that are not the initial ones."""
    torch.manual_seed(3)
    network = create_network(architecture, classes, size)
    with torch.no_grad():
        for name, value in network.state_dict().items():
            if value.is_floating_point():
                value.add_(torch.rand_like(value), alpha=0.05 if "running" in name else 0.02)
    preprocessing = Preprocessing(input_size=size, **{**OWN, **preprocessing})
    card = {
        "name": folder.name, "architecture": architecture, "arguments": {}, "classes": classes_of(classes),
        "decisions": DECISIONS, "recipe": "robust", "settings": {"train": train} if train else {}, "seed": 0,
        "inputs_sha256": "0", "data_md5": None, "metrics": {},
    }  # fmt: skip
    save_checkpoint(folder, Classifier(network, preprocessing), card)
    return folder


@pytest.fixture(scope="module")
def mine(tmp_path_factory):
    """A small checkpoint with a normalisation of its own; to be read only."""
    return checkpoint(tmp_path_factory.mktemp("mine") / "mine", train={"epochs": 7})


@pytest.fixture
def project(tmp_path):
    (tmp_path / "registry").mkdir()
    (tmp_path / "registry" / "zoo.yaml").write_text(yaml.safe_dump(ZOO))
    return Project(tmp_path)


def brought_in(project, file, name="net", classes=5, **stated):
    unlisted = {} if name in ZOO["models"] else {"recipe": "pretrained"}
    stated = {"architecture": "test_resnet", "size": 32} | unlisted | stated
    return import_weights(project, file, name, Stated(**stated), classes_of(classes), DECISIONS)


def exported(folder, file):
    export_weights(folder, file)
    return file


# out


@pytest.mark.parametrize("architecture", ["test_resnet", "test_vit"])
def test_a_robustness_checkpoint_has_its_keys_the_normaliser_and_plain_values_only(architecture, tmp_path):
    folder = checkpoint(tmp_path / "net", architecture, train={"epochs": 7})
    content = torch.load(exported(folder, tmp_path / "net.ckpt"), weights_only=True)
    state = content.pop("model")
    assert content == {"optimizer": None, "schedule": None, "epoch": 7, "amp": None}
    network = load_file(folder / WEIGHTS)
    both = {"module.model.", "module.attacker.model."}
    statistics = {f"module.{place}.new_{key}" for place in ("normalizer", "attacker.normalize") for key in OWN}
    assert set(state) == {f"{place}{name}" for place in both for name in network} | statistics
    assert all(torch.equal(state[f"{place}{name}"], value) for place in both for name, value in network.items())
    for place in ("normalizer", "attacker.normalize"):
        for key, values in OWN.items():
            assert torch.equal(state[f"module.{place}.new_{key}"], torch.tensor(values).reshape(3, 1, 1))
    assert (tmp_path / "net.ckpt").stat().st_size < 1.5 * (folder / WEIGHTS).stat().st_size + 50_000  # weights once


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".safetensors"])
def test_a_state_dictionary_is_timms(suffix, mine, tmp_path):
    file = exported(mine, tmp_path / f"net{suffix}")
    network = timm.create_model("test_resnet", num_classes=5, checkpoint_path=file).eval()
    mean, std = (torch.tensor(OWN[key]).reshape(1, 3, 1, 1) for key in ("mean", "std"))
    with torch.no_grad():
        assert torch.equal(network((pixels() - mean) / std), logits(mine))
    if suffix == ".safetensors":
        with safe_open(file, "pt") as opened:
            assert opened.metadata() == {"format": "pt"}
    else:
        assert type(torch.load(file, weights_only=True)) is dict


@pytest.mark.parametrize("suffix", [".ckpt", ".pth", ".safetensors"])
def test_the_same_checkpoint_is_exported_as_the_same_bytes(suffix, mine, tmp_path):
    files = [exported(mine, tmp_path / f"{name}{suffix}") for name in ("one", "other")]
    assert files[0].read_bytes() == files[1].read_bytes()


@pytest.fixture
def robustness(monkeypatch):
    """The package, which asks torchvision for a module that is gone, and a GPU for its models."""
    module = types.ModuleType("torchvision.models.utils")
    module.load_state_dict_from_url = torch.hub.load_state_dict_from_url
    monkeypatch.setitem(sys.modules, "torchvision.models.utils", module)
    monkeypatch.setattr(nn.Module, "cuda", lambda self: self)
    from robustness import datasets, model_utils

    return types.SimpleNamespace(datasets=datasets, model_utils=model_utils)


@pytest.mark.parametrize(
    "architecture", ["resnet18", "resnet50", pytest.param("wide_resnet50_2", marks=pytest.mark.slow)]
)
def test_robustness_restores_the_model_strictly_with_equal_logits(architecture, robustness, tmp_path, monkeypatch):
    folder = checkpoint(tmp_path / architecture, architecture, 1000, 64)
    for initialise in ("kaiming_normal_", "kaiming_uniform_"):  # the rest is from the file, or it shows
        monkeypatch.setattr(nn.init, initialise, lambda tensor, *_, **__: tensor.detach().fill_(torch.nan))
    file = exported(folder, tmp_path / "net.ckpt")
    dataset = robustness.datasets.ImageNet("nowhere")
    model, content = robustness.model_utils.make_and_restore_model(
        arch=architecture, dataset=dataset, resume_path=str(file)
    )
    model.load_state_dict({name.removeprefix("module."): v for name, v in content["model"].items()}, strict=True)
    with torch.no_grad():
        theirs, _ = model.eval()(pixels(64))
    expected = logits(folder, 64)
    assert expected.std(dim=0).min() > 1e-4
    torch.testing.assert_close(theirs, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("net.bin", "/net.bin': the suffix decides the format, expected .ckpt, .pth, .pt, .safetensors: rename it"),
        ("net", "/net': the suffix decides the format, expected .ckpt, .pth, .pt, .safetensors: rename it"),
        ("there.pth", "/there.pth exists: replace it with --replace, or name another file"),
        ("mine/model.safetensors", "/model.safetensors belongs to a checkpoint of advalign, which would be damaged: "
                                   "name another file"),
    ],
)  # fmt: skip
def test_an_export_that_is_refused_writes_nothing(name, says, tmp_path):
    folder = checkpoint(tmp_path / "mine")
    (tmp_path / "there.pth").write_text("mine")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(InputError) as caught:
        export_weights(folder, tmp_path / name, replace=name.startswith("mine"))
    assert str(caught.value).endswith(says)
    assert caught.value.exit_code == 2
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_what_exists_is_replaced_where_asked(mine, tmp_path):
    (tmp_path / "net.pth").write_text("old")
    export_weights(mine, tmp_path / "net.pth", replace=True)
    assert torch.load(tmp_path / "net.pth", weights_only=True).keys() == load_file(mine / WEIGHTS).keys()


def test_a_damaged_checkpoint_is_not_exported(tmp_path):
    folder = checkpoint(tmp_path / "net")
    (folder / WEIGHTS).write_bytes(b"spoiled")
    with pytest.raises(DataError, match="the weights were changed or damaged"):
        export_weights(folder, tmp_path / "net.ckpt")
    assert list(tmp_path.iterdir()) == [folder]


# in


def test_a_robustness_checkpoint_comes_back_with_its_normalisation(mine, project, tmp_path):
    card = brought_in(project, exported(mine, tmp_path / "mine.ckpt"), "net_l2_eps1", recipe="robust", license="MIT")
    folder = project.runs / "net_l2_eps1"
    assert torch.equal(logits(folder), logits(mine))
    assert card == read_card(folder)
    assert card.preprocessing == Preprocessing(input_size=32, **OWN, interpolation="bilinear", crop=0.875)
    assert (card.name, card.architecture, card.recipe, card.license) == ("net_l2_eps1", "test_resnet", "robust", "MIT")
    assert (imported_from(card), imported_from(read_card(mine))) == ("mine.ckpt", None)
    assert str(tmp_path) not in (folder / CARD).read_text()
    assert (card.data_md5, card.metrics, (folder / HISTORY).exists()) == (None, {}, False)


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".safetensors"])
def test_a_state_dictionary_comes_back_with_timms_preprocessing(suffix, project, tmp_path):
    config = timm.get_pretrained_cfg("test_resnet")
    folder = checkpoint(tmp_path / "mine", mean=config.mean, std=config.std)
    card = brought_in(project, exported(folder, tmp_path / f"mine{suffix}"))
    assert torch.equal(logits(project.runs / "net"), logits(folder))
    assert card.preprocessing.model_dump() == {
        "input_size": 32, "mean": config.mean, "std": config.std, "interpolation": config.interpolation,
        "crop": config.crop_pct, "crop_mode": "center",
    }  # fmt: skip
    assert (card.recipe, card.license, card.settings["zoo"]["group"]) == ("pretrained", "unknown", "cnn")
    assert (card.group, card.baseline) == ("cnn", None)


@pytest.mark.parametrize("group", ["robust", "of-its-own"])
def test_what_its_recipe_says_is_on_the_card_of_an_unlisted_model(group, mine, project, tmp_path):
    said = {"recipe": "trained", "group": group, "baseline": "test_resnet.baseline"}
    card = brought_in(project, exported(mine, tmp_path / "net.ckpt"), "resnet18.baseline", **said)
    assert (card.recipe, card.group, card.baseline) == ("trained", group, "test_resnet.baseline")


def test_without_a_size_it_is_timms(mine, project, tmp_path):
    card = brought_in(project, exported(mine, tmp_path / "net.ckpt"), size=None)
    assert card.preprocessing.input_size == timm.get_pretrained_cfg("test_resnet").input_size[-1]


def test_what_robustness_trains_and_dill_saves_is_imported(mine, project, robustness, tmp_path):
    """Its own classes in DataParallel, with an optimiser that has stepped, as robustness.train writes it."""
    network = load_checkpoint(mine)[0].network
    dataset = robustness.datasets.ImageNet("nowhere", **{key: torch.tensor(values) for key, values in OWN.items()})
    model, _ = robustness.model_utils.make_and_restore_model(arch=network, dataset=dataset, add_custom_forward=False)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    network(pixels()).sum().backward()
    optimizer.step()
    network.load_state_dict(load_file(mine / WEIGHTS))
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, step_size=50)
    content = {
        "model": nn.DataParallel(model).state_dict(), "optimizer": optimizer.state_dict(),
        "schedule": schedule.state_dict(), "epoch": 3, "amp": None,
    }  # fmt: skip
    torch.save(content, tmp_path / "net.ckpt", pickle_module=dill)
    card = brought_in(project, tmp_path / "net.ckpt")
    assert torch.equal(logits(project.runs / "net"), logits(mine))
    assert (card.preprocessing.mean, card.preprocessing.std) == (OWN["mean"], OWN["std"])


def test_what_the_zoo_lists_is_as_the_zoo_says(mine, project, tmp_path):
    file = exported(mine, tmp_path / "mine.ckpt")
    card = import_weights(project, file, "listed_l2_eps1", Stated(), classes_of(5), DECISIONS)
    assert (card.architecture, card.recipe, card.license) == ("test_resnet", "robust", "BSD")
    assert (card.group, card.baseline) == ("robust", "test_resnet.baseline")
    assert card.preprocessing == Preprocessing(input_size=32, **OWN, interpolation="nearest", crop=0.5)
    assert torch.equal(logits(project.runs / "listed_l2_eps1"), logits(mine))
    assert brought_in(project, file, "listed_l2_eps1", license="BSD") == card  # what is stated agrees


def test_an_import_takes_the_place_of_an_import_and_the_same_one_changes_nothing(mine, project, tmp_path):
    first = brought_in(project, exported(mine, tmp_path / "mine.ckpt"))
    written = (project.runs / "net" / WEIGHTS).stat().st_mtime_ns
    assert brought_in(project, tmp_path / "mine.ckpt") == first
    assert (project.runs / "net" / WEIGHTS).stat().st_mtime_ns == written
    other = exported(checkpoint(tmp_path / "other", std=(0.5, 0.5, 0.5)), tmp_path / "other.ckpt")
    assert imported_from(brought_in(project, other)) == "other.ckpt"
    assert torch.equal(logits(project.runs / "net"), logits(tmp_path / "other"))


class Trap:
    def __reduce__(self):
        return print, ("unpickled",)


def truncated(mine, file):
    file.write_bytes(exported(mine, file).read_bytes()[:5000])


NO_FILE = "{file} is missing or not a file: name a file of weights (.safetensors, .pth, .pt, .ckpt)"
NO_TENSORS = (
    "{file} is damaged or holds pickled objects as well as tensors and is refused: if you trust it, save its state "
    "dictionary alone (torch.save(state, FILE), or safetensors) and name that"
)
HELD = NO_TENSORS.replace("is damaged or holds pickled objects", "holds pickled objects (['builtins.print'])")
FILES = {
    "missing": (lambda mine, file: None, NO_FILE),
    "a folder": (lambda mine, file: file.mkdir(), NO_FILE),
    "truncated": (truncated, "{file} cannot be read as weights: "),
    "no weights": (lambda mine, file: file.write_text("hello"), "{file} looks like text ('hello' ...): "),
    "pickled objects": (lambda mine, file: torch.save({"model": Trap()}, file), HELD),
    "a bare pickle": (lambda mine, file: file.write_bytes(pickle.dumps(Trap())), NO_TENSORS),
    "a list": (lambda mine, file: torch.save([1], file), "{file} holds a list, not a state dictionary"),
    "another architecture": (
        lambda mine, file: exported(checkpoint(file.parent / "vit", "test_vit"), file),
        "{file} is of another architecture: of ",
    ),
    "other classes": (
        lambda mine, file: exported(checkpoint(file.parent / "six", classes=6), file),
        "{file} does not fit architecture 'test_resnet': size mismatch for fc.weight: ",
    ),
}


@pytest.mark.parametrize("kind", FILES)
def test_a_file_that_does_not_do_is_refused_in_one_line_and_leaves_nothing(kind, mine, project, tmp_path, capsys):
    make, says = FILES[kind]
    file = tmp_path / "theirs.ckpt"
    make(mine, file)
    with pytest.raises(DataError) as caught:
        brought_in(project, file)
    message = str(caught.value)
    assert message.startswith(says.format(file=file))
    assert "\n" not in message
    assert caught.value.exit_code == 2
    assert [path for path in (tmp_path / "outputs").rglob("*") if not path.name.endswith(".lock")] in (
        [], [project.runs]
    )  # fmt: skip
    assert capsys.readouterr().out == ""


def test_an_import_that_fails_leaves_the_earlier_one(mine, project, tmp_path):
    card = brought_in(project, exported(mine, tmp_path / "mine.ckpt"))
    (tmp_path / "spoiled.ckpt").write_bytes(b"spoiled")
    with pytest.raises(DataError):
        brought_in(project, tmp_path / "spoiled.ckpt")
    assert read_card(project.runs / "net") == card
    assert torch.equal(logits(project.runs / "net"), logits(mine))


STATED = {
    "no architecture": ({"architecture": None}, "net",
                        "'net' is not listed in registry/zoo.yaml: name its architecture (--model ARCH)"),
    "no such architecture": ({"architecture": "test_resnt"}, "net", "unknown model 'test_resnt'; did you mean "),
    "no recipe": ({"recipe": None}, "net",
                  "'net' is not listed in registry/zoo.yaml: say how it was trained (--recipe; by others: pretrained)"),
    "the zoo's recipe": (
        {"recipe": "combined"}, "listed_l2_eps1",
        "listed_l2_eps1 is listed in registry/zoo.yaml with 'robust', not 'combined': leave out --recipe, or fix the "
        "entry"),
    "no group": ({"architecture": "test_vit"}, "net",
                 "'test_vit' of net is not declared: add it to registry/zoo.yaml (architectures), or list net"),
    "a path": ({}, "../net", "'../net' cannot name a model: "),
    "a size": ({"size": 9000}, "net", "zoo entry net: preprocessing: input_size: "),
    "the zoo's architecture": (
        {"architecture": "test_vit"}, "listed_l2_eps1",
        "listed_l2_eps1 is listed in registry/zoo.yaml with 'test_resnet', not 'test_vit': leave out --model, or fix "
        "the entry"),
    "the zoo's size": (
        {"size": 64}, "listed_l2_eps1",
        "listed_l2_eps1 is listed in registry/zoo.yaml with 32, not 64: leave out --size, or fix the entry"),
    "the zoo's licence": (
        {"license": "MIT"}, "listed_l2_eps1",
        "listed_l2_eps1 is listed in registry/zoo.yaml with 'BSD', not 'MIT': leave out --license, or fix the entry"),
    "the zoo's mean": (
        {"size": None}, "said_l2_eps1",
        "{file} normalises with mean [0.1, 0.25, 0.4], registry/zoo.yaml says [0.5, 0.5, 0.5] of said_l2_eps1: fix "
        "the entry, or remove it there"),
    "a trained name": ({}, "trained", "outputs/checkpoints/trained was not imported and is not replaced: import under "
                                      "another name"),
    "a name trained by hand": ({}, "by_hand", "outputs/runs/by_hand was not imported and is not replaced: import under "
                                              "another name"),
    "a training cut off": ({}, "cut_off", "outputs/runs/cut_off was not imported and is not replaced: import under "
                                          "another name"),
}  # fmt: skip


@pytest.mark.parametrize("kind", STATED)
def test_a_name_or_statement_that_does_not_do_is_refused_and_changes_nothing(kind, mine, project, tmp_path):
    stated, name, says = STATED[kind]
    file = exported(mine, tmp_path / "mine.ckpt")
    for folder in (project.checkpoints / "trained", project.runs / "by_hand"):
        checkpoint(folder)
    (project.runs / "cut_off").mkdir()
    (project.runs / "cut_off" / HISTORY).write_text("epoch\n")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(InputError) as caught:
        brought_in(project, file, name, **stated)
    assert str(caught.value).startswith(says.format(file=file))
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("name", [WEIGHTS, CARD])
def test_a_checkpoint_of_advalign_needs_no_import(name, project, tmp_path):
    folder = checkpoint(tmp_path / "mine")
    for file in (folder / name, tmp_path / "link"):
        if file.name == "link":
            file.symlink_to(folder / name)
        with pytest.raises(InputError, match="belongs to a checkpoint of advalign, which needs no import: use "):
            brought_in(project, file)


# the normaliser


def statistics(place, mean, std, ends=("new_mean", "new_std")):
    pair = zip(ends, (mean, std), strict=True)
    return {f"{place}.{end}": torch.tensor(values).reshape(-1, 1, 1) for end, values in pair}


@pytest.mark.parametrize(
    "state",
    [
        statistics("module.normalizer", **IMAGENET),
        statistics("normalizer", **IMAGENET) | statistics("attacker.normalize", **IMAGENET),
        statistics("normalize", **IMAGENET, ends=("mean", "std")),
        statistics("0", **IMAGENET, ends=("mean", "std")),
    ],
)
def test_a_normaliser_is_found_and_said_in_short_decimals(state):
    found = read_normaliser({"": {"epoch": 3, 0: "x"}, "model": {"weight": torch.ones(3), **state}}, "net.ckpt")
    assert found == {key: list(values) for key, values in IMAGENET.items()}


def test_one_value_for_all_channels_is_three():
    assert read_normaliser({"": statistics("n", [0.5], [0.25])}, "f") == {"mean": [0.5] * 3, "std": [0.25] * 3}


@pytest.mark.parametrize(
    "state", [{}, {"layer.running_mean": torch.ones(3)}, {"a.mean": torch.ones(3)}, {"mean": torch.ones(3)},
              {"a.mean": torch.ones(64), "a.std": torch.ones(64)}],
)  # fmt: skip
def test_no_normaliser_is_none(state):
    assert read_normaliser({"": state}, "net.ckpt") == {}


@pytest.mark.parametrize(
    "state",
    [
        statistics("n", [123.7, 116.3, 103.5], [58.4, 57.1, 57.4]),
        statistics("n", [0.5] * 3, [0.0, 0.5, 0.5]),
        statistics("n", [float("nan"), 0.5, 0.5], [0.5] * 3),
        statistics("normalizer", **IMAGENET) | statistics("attacker.normalize", [0.5] * 3, [0.5] * 3),
    ],
)
def test_a_normaliser_that_is_none_of_pixels_is_refused(state):
    with pytest.raises(DataError) as caught:
        read_normaliser({"": state}, "net.ckpt")
    message = str(caught.value)
    assert message.startswith("net.ckpt normalises with {'mean': [")
    assert message.endswith(
        "which is not one normalisation of pixels in [0, 1]: save its network's state alone, and list it in "
        "registry/zoo.yaml with its preprocessing"
    )
