"""The declared zoo's models on their way to checkpoints: what is fetched computes what the original computed."""

import json
import os
import pickle
import socket
import subprocess
import sys
import threading
from argparse import Namespace
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import dill
import pytest
import timm
import torch
import torchvision
from safetensors.torch import load_file, save, save_file
from timm.data import resolve_model_data_config
from torch import nn

from advalign.errors import AdvalignError
from advalign.files import sha256
from advalign.models import fetched, published
from advalign.models.checkpoints import CARD, WEIGHTS, ClassCard, load_checkpoint, read_card, save_checkpoint
from advalign.models.classifier import Classifier, Preprocessing
from advalign.models.declared import ZooEntry, read_zoo
from advalign.models.fetched import FetchedModel, read_states
from tests.conftest import REPOSITORY
from tests.trap import Trap

torch.set_num_threads(1)

ARCHITECTURES = ("test_resnet", "test_vit", "test_efficientnet")
HEADS = {"test_resnet": "fc", "test_vit": "head", "test_efficientnet": "classifier"}
SIZE = {"input_size": 32}


def classes_of(count):
    return tuple(ClassCard(wnid=f"n{index:08}", name=f"class {index}", decision=index % 2) for index in range(count))


def no_download(uri):
    raise AssertionError(f"nothing asked for {uri}")


def model(root, weights="net.pth", classes=5, name="net", download=no_download, **entry):
    """An entry of a zoo whose project is `root`; the network takes 32 x 32 pixels unless the entry says more."""
    entry = {"group": "cnn", "architecture": "test_resnet", "preprocessing": SIZE} | entry
    return FetchedModel(
        name=name,
        entry=ZooEntry(**entry),
        weights=weights,
        folder=root / "outputs" / "zoo" / name,
        root=root,
        classes=classes_of(classes),
        decisions=("inanimate", "animate"),
        download=download,
    )


def original(architecture="test_resnet", classes=5, size=32, seed=3, **arguments):
    """A network as its authors have it: straight from timm, with running statistics that are not the initial ones."""
    if timm.get_pretrained_cfg(architecture).fixed_input_size:
        arguments["img_size"] = size
    torch.manual_seed(seed)
    network = timm.create_model(architecture, num_classes=classes, **arguments)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.02)  # no norm or bias as it was initialised
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    network.train()(torch.rand(8, 3, size, size))
    return network.eval()


def logits_of(network, pixels, architecture="test_resnet"):
    """What the authors compute: their normalisation, then their network."""
    config = timm.get_pretrained_cfg(architecture)
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (config.mean, config.std))
    with torch.no_grad():
        return network((pixels - mean) / std)


def pixels(size=32, count=3):
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(1))


def same_logits(source, network, architecture="test_resnet", size=32):
    """The checkpoint that the source made computes what the network computes, and different things per image."""
    made, card = load_checkpoint(source.folder)
    expected = logits_of(network, pixels(size), architecture)
    with torch.no_grad():
        assert torch.equal(made(pixels(size)), expected)
    assert expected.std(dim=0).min() > 1e-4
    assert not any(module.training for module in made.modules())
    return card


def prefixed(state, prefix):
    return {f"{prefix}{name}": value for name, value in state.items()}


def copied(network):
    return {name: value.clone() for name, value in network.state_dict().items()}


def as_the_robustness_library(network, root):
    """What robustness.train writes: an AttackerModel inside DataParallel, the network in it twice, by dill."""
    state = copied(network)
    statistics = {"new_mean": torch.zeros(3, 1, 1), "new_std": torch.ones(3, 1, 1)}
    wrapped = (
        prefixed(statistics, "module.normalizer.")
        | prefixed(state, "module.model.")
        | prefixed(statistics, "module.attacker.normalize.")
        | prefixed(state, "module.attacker.model.")
    )
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
    network(pixels()).sum().backward()
    optimizer.step()  # so that momentum buffers lie beside the weights
    network.load_state_dict(state)
    content = {"model": wrapped, "optimizer": optimizer.state_dict(), "epoch": 3, "amp": None}
    torch.save(content, root / "net.pth", pickle_module=dill)


CONTAINERS = {
    "safetensors": lambda network, root: save_file(network.state_dict(), root / "net.safetensors"),
    "state dictionary": lambda network, root: torch.save(network.state_dict(), root / "net.pth"),
    "old torch format": lambda network, root: torch.save(
        network.state_dict(), root / "net.pth", _use_new_zipfile_serialization=False
    ),
    "distributed": lambda network, root: torch.save(
        {"epoch": 7, "state_dict": prefixed(network.state_dict(), "module."), "arch": "test"}, root / "net.pth"
    ),
    "robustness library": as_the_robustness_library,
    "compiled": lambda network, root: torch.save(prefixed(network.state_dict(), "_orig_mod."), root / "net.pth"),
    "compiled and distributed": lambda network, root: torch.save(
        {"state_dict": prefixed(network.state_dict(), "module._orig_mod.")}, root / "net.pth"
    ),
}


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("container", CONTAINERS)
def test_logits_from_a_file_are_the_originals_to_the_bit(container, architecture, tmp_path):
    network = original(architecture)
    CONTAINERS[container](network, tmp_path)
    (file,) = tmp_path.iterdir()
    source = model(tmp_path, file.name, architecture=architecture)
    source.fetch()
    same_logits(source, network, architecture)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth", ".pt", ".ckpt"])
def test_a_folder_is_looked_through_for_a_file_of_the_models_name(suffix, tmp_path):
    (tmp_path / "weights").mkdir()
    network = original()
    if suffix == ".safetensors":
        save_file(network.state_dict(), tmp_path / "weights" / "net_l2_eps0.5.safetensors")
    else:
        torch.save(network.state_dict(), tmp_path / "weights" / f"net_l2_eps0.5{suffix}")
    torch.save(original(seed=4).state_dict(), tmp_path / "weights" / "net_l2_eps0.pth")  # a neighbour
    source = model(tmp_path, "weights", name="net_l2_eps0.5")
    source.fetch()
    same_logits(source, network)


def test_a_place_may_be_absolute_or_in_the_home_folder(tmp_path, monkeypatch):
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    network = original()
    torch.save(network.state_dict(), home / "net.pth")
    for number, place in enumerate((str(home / "net.pth"), "~/net.pth")):
        source = model(tmp_path / f"project{number}", place)
        source.fetch()
        same_logits(source, network)


def test_half_precision_weights_become_the_nearest_float32(tmp_path):
    network = original().half().float()
    save_file({name: v.half() if v.is_floating_point() else v for name, v in network.state_dict().items()},
              tmp_path / "net.safetensors")  # fmt: skip
    source = model(tmp_path, "net.safetensors")
    source.fetch()
    same_logits(source, network)


def own_checkpoint(folder, network, classes=5, architecture="test_resnet", **fields):
    config = timm.get_pretrained_cfg(architecture)
    preprocessing = Preprocessing(input_size=32, mean=config.mean, std=config.std, interpolation="bilinear", crop=0.5)
    fields = {
        "name": "trained-elsewhere",
        "architecture": architecture,
        "arguments": {},
        "classes": classes_of(classes),
        "decisions": ("inanimate", "animate"),
        "recipe": "harmonized",
        "settings": {"train": {"epochs": 90}},
        "seed": 5,
        "inputs_sha256": "11",
        "data_md5": "22",
        "metrics": {"val_accuracy": 0.7},
    } | fields
    return save_checkpoint(folder, Classifier(network, preprocessing), fields)


def test_a_checkpoint_of_this_project_inside_a_folder_is_taken_with_its_own_architecture_and_preprocessing(tmp_path):
    network = original("test_vit", patch_size=8)
    own_checkpoint(tmp_path / "weights" / "net", network, architecture="test_vit", arguments={"patch_size": 8})
    source = model(tmp_path, "weights", group="harmonized", preprocessing={}, architecture=None)
    card = source.fetch()
    same_logits(source, network, "test_vit")
    assert (card.architecture, card.arguments, card.preprocessing.crop) == ("test_vit", {"patch_size": 8}, 0.5)
    assert (card.name, card.recipe) == ("net", "harmonized")
    assert (card.group, card.baseline) == ("harmonized", "test_vit.baseline")


def test_a_registered_model_comes_by_the_download_that_was_handed_in(tmp_path):
    network, asked = original(), []
    own_checkpoint(tmp_path / "downloaded", network)

    def download(uri):
        asked.append(uri)
        return tmp_path / "downloaded"

    source = model(tmp_path, "models:/some.model@champion", download=download, preprocessing={})
    assert source.known() is None
    source.fetch()
    same_logits(source, network)
    assert asked == ["models:/some.model@champion"]
    assert source.known() is None  # the alias may have moved
    moved = original(seed=8)
    own_checkpoint(tmp_path / "downloaded", moved)
    source.fetch()
    same_logits(source, moved)


@pytest.mark.parametrize("place", ["weights", "models:/net@champion"])
def test_a_checkpoint_of_other_classes_is_refused(place, tmp_path):
    own_checkpoint(tmp_path / "weights" / "net", original(classes=10), classes=10)
    source = model(tmp_path, place, download=lambda uri: tmp_path / "weights" / "net", preprocessing={})
    refused(source, "net: .*different classes .10. than", place)


@pytest.mark.parametrize(
    ("said", "key"),
    [
        ({"architecture": "test_vit"}, "architecture"),
        ({"arguments": {"drop_rate": 0.1}}, "arguments"),
        ({"preprocessing": {"crop": 0.9}}, "preprocessing"),
        ({"head": "head.pth"}, "head"),
    ],
)
def test_what_an_entry_says_against_a_checkpoint_is_refused(said, key, tmp_path):
    own_checkpoint(tmp_path / "weights" / "net", original())
    refused(
        model(tmp_path, "weights", **({"preprocessing": {}} | said)), f"net: {key} is known from the checkpoint itself"
    )


@pytest.mark.parametrize("name", ["../x", "a/b", ".hidden", "", "-flag"])
def test_a_name_that_is_no_file_name_is_refused(name, tmp_path):
    (tmp_path / "zoo.yaml").write_text(f"models: {{{name!r}: {{group: cnn}}}}\n")
    with pytest.raises(AdvalignError, match=r"zoo.yaml: models"):
        read_zoo(tmp_path / "zoo.yaml")


def test_a_published_state_with_what_timm_converts_away_is_taken(tmp_path):
    """Swin's released files hold index tables that timm computes: refused by name, taken by timm's conversion."""
    small = {"embed_dim": 16, "depths": (1, 1), "num_heads": (2, 2), "window_size": 4}
    arguments = {"img_size": 32, **small}
    network = timm.create_model("swin_tiny_patch4_window7_224", num_classes=5, **arguments)
    published = network.state_dict() | {"layers.0.blocks.0.attn.relative_position_index": torch.zeros(16, 16).long()}
    torch.save({"model": published}, tmp_path / "net.pth")
    source = model(tmp_path, architecture="swin_tiny_patch4_window7_224", arguments=small)
    source.fetch()
    found = load_checkpoint(source.folder)[0].network.state_dict()
    assert all(torch.equal(found[name], value) for name, value in network.state_dict().items())


AVERAGED, LAST, OTHER = 3, 4, 5  # seeds of networks


@pytest.mark.parametrize(
    ("content", "taken"),
    [
        ({"model": LAST, "state_dict_ema": AVERAGED}, "state_dict_ema"),
        ({"state_dict_ema": AVERAGED, "state_dict": LAST}, "state_dict_ema"),
        ({"model": LAST, "model_ema": AVERAGED}, "model_ema"),
        ({"optimizer": {"state": {}}, "net": OTHER, "state_dict": AVERAGED}, "state_dict"),
        ({"module": OTHER, "model": AVERAGED}, "model"),
    ],
)
def test_of_several_weights_in_a_file_those_are_taken_that_timm_takes_and_it_is_said(content, taken, tmp_path, capsys):
    networks = {key: original(seed=seed) for key, seed in content.items() if isinstance(seed, int)}
    file = tmp_path / "net.pth"
    torch.save({key: networks[key].state_dict() if key in networks else value for key, value in content.items()}, file)
    source = model(tmp_path)
    source.fetch()
    same_logits(source, networks[taken])
    assert f"those under {taken!r} are taken, as timm does" in capsys.readouterr().err
    theirs = timm.create_model("test_resnet", num_classes=5, checkpoint_path=str(file)).eval()
    with torch.no_grad():
        assert torch.equal(theirs(pixels()), networks[taken](pixels()))


@pytest.mark.parametrize("architecture", ["test_resnet", "torchvision:resnet18"])
def test_weights_of_before_batch_norms_counted_are_taken(architecture, tmp_path):
    """Files of PyTorch before 0.4.1 have no num_batches_tracked (pytorch/pytorch#8430)."""
    network = torchvision.models.resnet18(num_classes=5) if ":" in architecture else original()
    state = network.state_dict()
    old = {name: value for name, value in state.items() if not name.endswith("num_batches_tracked")}
    assert len(old) < len(state)
    torch.save(old, tmp_path / "net.pth")
    source = model(tmp_path, architecture=architecture)
    source.fetch()
    found = load_checkpoint(source.folder)[0].network.state_dict()
    assert all(torch.equal(found[name], value) for name, value in old.items())


@pytest.mark.parametrize(
    ("name", "write", "told"),
    [
        ("net.safetensors", torch.save, "was written by torch.save: end its name in .pth"),
        ("net.pth", save_file, "is in the format of safetensors: end its name in .safetensors"),
        ("net.ckpt", lambda state, file: torch.save({"state_dict": state, "args": Namespace(lr=1)}, file),
         r"holds pickled objects \(\['argparse.Namespace'\]\) as well as tensors .*: if you trust it, save its state"),
    ],
)  # fmt: skip
def test_what_a_file_of_weights_is_instead_is_told(name, write, told, tmp_path):
    write(original().state_dict(), tmp_path / name)
    refused(model(tmp_path, name), told, str(tmp_path / name))


def test_the_same_weights_twice_are_no_question(tmp_path, capsys):
    network = original()
    torch.save({"teacher": network.state_dict(), "student": network.state_dict()}, tmp_path / "net.pth")
    source = model(tmp_path)
    source.fetch()
    same_logits(source, network)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    "content",
    [
        lambda one, other: {"teacher": one, "student": other},
        lambda one, other: {"state_dict": prefixed(one, "teacher.") | prefixed(other, "student.")},
        lambda one, other: prefixed(one, "model.") | prefixed(other, "model_ema."),
    ],
)
def test_several_weights_that_timm_does_not_order_are_asked_about(content, tmp_path):
    torch.save(content(original().state_dict(), original(seed=4).state_dict()), tmp_path / "net.pth")
    refused(model(tmp_path), r"holds several weights that fit, .*(teacher|model).*: save alone those that you mean")


# what is refused


def refused(source, says, names=""):
    """One line that says what and names the file; and no checkpoint is left that looks like one."""
    with pytest.raises(AdvalignError, match=says) as caught:
        source.fetch()
    assert "\n" not in str(caught.value)
    assert names in str(caught.value)
    assert source.known() is None
    assert not (source.folder / CARD).exists()
    if source.folder.parent.exists():
        assert [path.name for path in source.folder.parent.iterdir() if path.name.startswith(".hub")] == []


@pytest.mark.parametrize("other", ["test_vit", "test_efficientnet"])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_another_architecture_is_refused(other, suffix, tmp_path):
    file = tmp_path / f"net{suffix}"
    (save_file if suffix == ".safetensors" else torch.save)(original(other).state_dict(), file)
    refused(model(tmp_path, file.name), "of another architecture", str(file))


def test_the_same_architecture_of_another_width_is_refused(tmp_path):
    torch.save(original("test_vit", embed_dim=128).state_dict(), tmp_path / "net.pth")
    refused(model(tmp_path, architecture="test_vit"), "does not fit architecture 'test_vit'", str(tmp_path / "net.pth"))


@pytest.mark.parametrize("length", [0, 1, 100, -1000, -1])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_truncated_file_is_refused(suffix, length, tmp_path):
    file = tmp_path / f"net{suffix}"
    (save_file if suffix == ".safetensors" else torch.save)(original().state_dict(), file)
    os.truncate(file, length % file.stat().st_size)
    refused(model(tmp_path, file.name), "net", str(file))


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 44\n", "a Git LFS pointer.*git lfs pull"),
        (b"<!DOCTYPE html>", "looks like a web page"),
        (b"0: not found\n", "looks like text .'0: not found'"),
        (b"a", "damaged|cannot be read"),
        (b"error 404", "looks like text .'error 404'"),
        (b"{}", "damaged|cannot be read"),
        (b"", "is empty: the download or the copy was cut off"),
    ],
)
def test_a_text_file_under_the_weights_name_is_refused(content, told, suffix, tmp_path):
    (tmp_path / f"net{suffix}").write_bytes(content)
    refused(model(tmp_path, f"net{suffix}"), told, str(tmp_path / f"net{suffix}"))


@pytest.mark.parametrize("form", ["zip", "old", "plain"])
def test_whatever_bytes_are_changed_the_file_is_read_or_refused_in_one_line(form, tmp_path):
    state = {"a.weight": torch.ones(3, 3), "b": torch.zeros(2)}
    file = tmp_path / ("net.safetensors" if form == "plain" else "net.pth")
    if form == "plain":
        whole = save(state)
    else:
        torch.save(state, file, _use_new_zipfile_serialization=form == "zip")
        whole = file.read_bytes()
    random = torch.Generator().manual_seed(0)
    for _ in range(150):
        content = bytearray(whole)
        for position in torch.randint(len(content), (4,), generator=random).tolist():
            content[position] = int(torch.randint(256, (), generator=random))
        file.write_bytes(content)
        try:
            read_states(file)
        except AdvalignError as error:
            assert str(file) in str(error)
            assert "\n" not in str(error)


@pytest.mark.parametrize("where", ["alone", "beside the weights", "plain pickle", "old torch format"])
def test_code_in_a_pickle_is_not_run(where, tmp_path):
    trapped, file = tmp_path / "unpickled", tmp_path / "net.pth"
    state = original().state_dict()
    if where == "plain pickle":
        file.write_bytes(pickle.dumps(Trap(trapped)))
    elif where == "alone":
        torch.save(Trap(trapped), file)
    else:
        content = {"state_dict": state, "args": Trap(trapped)}
        torch.save(content, file, _use_new_zipfile_serialization=where != "old torch format")
    refused(model(tmp_path), "refused", str(file))
    assert not trapped.exists()
    pickle.loads(pickle.dumps(Trap(trapped)))  # noqa: S301  the trap would have shut
    assert trapped.exists()


def test_a_pickle_under_a_safetensors_name_is_not_unpickled(tmp_path):
    trapped = tmp_path / "unpickled"
    torch.save(Trap(trapped), tmp_path / "net.safetensors")
    told = "was written by torch.save: end its name in .pth"
    refused(model(tmp_path, "net.safetensors"), told, str(tmp_path / "net.safetensors"))
    assert not trapped.exists()


def test_weights_of_ten_classes_do_not_pass_for_thirty_six(tmp_path):
    torch.save(original(classes=10).state_dict(), tmp_path / "net.pth")
    refused(model(tmp_path, classes=36), r"does not fit.*\[10, .*\[36, ", str(tmp_path / "net.pth"))


def test_tensors_too_many_are_refused_by_name(tmp_path):
    torch.save(original().state_dict() | {"adapter.weight": torch.ones(2)}, tmp_path / "net.pth")
    refused(model(tmp_path), r"also has \['adapter.weight'\]", str(tmp_path / "net.pth"))


def test_a_missing_tensor_is_refused_by_name(tmp_path):
    state = original().state_dict()
    del state["layer2.0.bn1.running_mean"]
    torch.save(state, tmp_path / "net.pth")
    refused(model(tmp_path), r"lacks \['layer2.0.bn1.running_mean'\]", str(tmp_path / "net.pth"))


@pytest.mark.parametrize("content", [[1, 2], torch.ones(3), {"epoch": 3}, {}, {"model": {}}, None])
def test_a_file_without_a_state_dictionary_is_refused(content, tmp_path):
    torch.save(content, tmp_path / "net.pth")
    refused(model(tmp_path), "not a state dictionary|of another architecture", str(tmp_path / "net.pth"))


@pytest.mark.parametrize(("place", "names"), [("net.pth", "net.pth"), ("weights", "weights/net.safetensors")])
def test_a_missing_file_is_named_with_the_fix(place, names, tmp_path):
    (tmp_path / "weights").mkdir()
    refused(
        model(tmp_path, place),
        r"is missing \(or .*\): put the weights there, or name another place in the zoo",
        str(tmp_path / names),
    )


def test_an_unreadable_file_is_named(tmp_path, monkeypatch):
    torch.save(original().state_dict(), tmp_path / "net.pth")

    def denied(*_, **__):
        raise PermissionError(13, "Permission denied")  # root, as tests may run, is never denied by the file system

    monkeypatch.setattr(torch, "load", denied)
    refused(model(tmp_path), "cannot be read.*Permission denied", str(tmp_path / "net.pth"))


@pytest.mark.parametrize("weights", ["net.pth", "hub"])
def test_an_unknown_architecture_is_refused_with_the_nearest(weights, tmp_path):
    source = model(tmp_path, weights, architecture="resnet18x.tv_in1k")
    refused(source, "unknown model 'resnet18x.tv_in1k'; did you mean .*resnet18.*tv_in1k")


@pytest.mark.parametrize("weights", ["net.pth", "hub"])
def test_an_unknown_tag_is_refused_with_those_that_timm_has(weights, tmp_path):
    refused(model(tmp_path, weights, architecture="resnet18.nobody_in1k"), "nobody_in1k.*resnet18.tv_in1k")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"crop_ptc": 0.9}, "net: preprocessing: unknown key 'crop_ptc'"),
        ({"input_size": "wide"}, "net: preprocessing: input_size.*'wide'"),
        ({"mean": [0.5, 0.5]}, "net: preprocessing: mean"),
    ],
)
def test_preprocessing_that_there_is_none_of_is_refused(changes, says, tmp_path):
    refused(model(tmp_path, preprocessing=changes), says)


@pytest.mark.parametrize("arguments", [{"patch_sise": 8}, {"checkpoint_path": "net.pth"}, {"num_classes": 7}])
def test_arguments_that_the_architecture_refuses_are_refused(arguments, tmp_path):
    torch.save(original("test_vit").state_dict(), tmp_path / "net.pth")
    refused(model(tmp_path, architecture="test_vit", arguments=arguments), "test_vit")


def no_hub(*_, **__):
    raise AssertionError("the hub was asked")


@pytest.mark.parametrize(
    ("architecture", "classes", "arguments", "theirs"),
    [("vit_small_patch14_dinov2.lvd142m", 1000, {"depth": 1}, 0), ("test_resnet.r160_in1k", 5, {}, 1000)],
)
def test_hub_weights_of_other_classes_are_refused_without_a_download(
    architecture, classes, arguments, theirs, tmp_path, monkeypatch
):
    monkeypatch.setattr(fetched, "fetch_pretrained", no_hub)
    source = model(tmp_path, "hub", classes, architecture=architecture, arguments=arguments, preprocessing={})
    refused(source, f"net: the hub's weights are for {theirs} classes, .*{classes}: .*head: FILE")


# heads


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("prefix", ["", "linear.", "module.head."])
def test_a_head_is_exactly_the_files_and_the_features_stay_as_they_were(architecture, prefix, tmp_path):
    network, theirs = original(architecture, seed=3), HEADS[architecture]
    state = {name: value for name, value in network.state_dict().items() if not name.startswith(f"{theirs}.")}
    torch.save(state, tmp_path / "net.pth")
    random = torch.Generator().manual_seed(11)
    head = {end: torch.randn(value.shape, generator=random) for end, value in heads_of(network, theirs).items()}
    torch.save(prefixed(head, prefix), tmp_path / "head.pth")
    source = model(tmp_path, architecture=architecture, head="head.pth")
    source.fetch()
    made = load_file(source.folder / WEIGHTS)
    assert len(made) == len(state) + 2
    assert all(torch.equal(made[name], value) for name, value in state.items())
    assert all(torch.equal(made[f"{theirs}.{end}"], value) for end, value in head.items())
    network.load_state_dict(state | prefixed(head, f"{theirs}."))
    same_logits(source, network, architecture)


def heads_of(network, name):
    return network.get_submodule(name).state_dict()


@pytest.mark.parametrize("shape", [(10, 384), (5, 7)])
def test_a_head_of_another_shape_is_refused(shape, tmp_path):
    network = original()
    torch.save({n: v for n, v in network.state_dict().items() if not n.startswith("fc.")}, tmp_path / "net.pth")
    save_file({"weight": torch.ones(shape), "bias": torch.ones(shape[0])}, tmp_path / "head.safetensors")
    refused(model(tmp_path, head="head.safetensors"), "does not fit architecture")


@pytest.mark.parametrize(
    ("content", "says"),
    [({"weight": torch.ones(5, 2)}, r"lacks \['bias'\]"), ({}, "lacks"), (None, "head.pth is missing")],
)
def test_a_head_that_is_none_is_refused_by_its_file(content, says, tmp_path):
    network = original()
    torch.save({n: v for n, v in network.state_dict().items() if not n.startswith("fc.")}, tmp_path / "net.pth")
    if content is not None:
        torch.save(content, tmp_path / "head.pth")
    refused(model(tmp_path, head="head.pth"), says, str(tmp_path / "head.pth"))


def test_hub_weights_without_a_classifier_take_the_named_head(tmp_path, monkeypatch):
    """DINOv2 as timm has it, with one block and small images; only the download is left out."""
    create, asked = timm.create_model, []
    arguments = {"depth": 1, "img_size": 28}

    def local(name, **options):
        if options.pop("pretrained"):
            asked.append((name, options["num_classes"]))
            options.pop("cache_dir")
            torch.manual_seed(21)
        return create(name, **options)

    monkeypatch.setattr(published, "_ask_hub", lambda _: None)
    monkeypatch.setattr(published.timm, "create_model", local)
    random = torch.Generator().manual_seed(5)
    head = {"weight": torch.randn(5, 384, generator=random), "bias": torch.randn(5, generator=random)}
    torch.save(head, tmp_path / "head.pth")
    name = "vit_small_patch14_dinov2.lvd142m"
    source = model(
        tmp_path, "hub", name=name, architecture=None, arguments=arguments, head="head.pth",
        preprocessing={"input_size": 28},
    )  # fmt: skip
    source.fetch()
    assert asked == [(name, 0)]
    torch.manual_seed(21)
    features = create(name, num_classes=0, **arguments).eval()
    expected = logits_of(features, pixels(28), name) @ head["weight"].T + head["bias"]
    with torch.no_grad():
        torch.testing.assert_close(load_checkpoint(source.folder)[0](pixels(28)), expected, rtol=0, atol=1e-5)


def test_a_named_head_takes_the_place_of_the_hubs(tmp_path, monkeypatch):
    published = original(classes=1000)
    monkeypatch.setattr(fetched, "fetch_pretrained", lambda *_: published.state_dict())
    head = heads_of(original(seed=9), "fc")
    torch.save(head, tmp_path / "head.pth")
    source = model(tmp_path, "hub", head="head.pth")
    source.fetch()
    features = {name: value for name, value in published.state_dict().items() if not name.startswith("fc.")}
    expected = original()
    expected.load_state_dict(features | prefixed(head, "fc."))
    same_logits(source, expected)


# what is known without fetching


@pytest.fixture
def there(tmp_path):
    """A model that was fetched from a file."""
    torch.save(original().state_dict(), tmp_path / "net.pth")
    source = model(tmp_path, group="robust", license="apache-2.0")
    source.fetch()
    return source


def test_nothing_is_known_before_and_the_card_after(tmp_path):
    torch.save(original().state_dict(), tmp_path / "net.pth")
    source = model(tmp_path)
    assert source.known() is None
    card = source.fetch()
    assert source.known() == card == read_card(source.folder)
    assert card.weights_sha256 == sha256(source.folder / WEIGHTS)


def test_what_is_there_is_not_fetched_again(there, monkeypatch):
    before = (there.folder / WEIGHTS).stat()
    monkeypatch.setattr(fetched, "save_checkpoint", no_download)
    assert there.fetch() == there.known()
    assert (there.folder / WEIGHTS).stat() == before


def test_other_content_of_the_file_is_noticed_and_fetched(there):
    other = original(seed=6)
    file = there.root / "net.pth"
    before = file.stat()
    torch.save(other.state_dict(), file)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    assert file.stat().st_size == before.st_size
    assert there.known() is None
    there.fetch()
    same_logits(there, other)
    assert there.known() is not None


def test_another_size_of_the_file_is_noticed_even_at_the_same_time(there):
    file = there.root / "net.pth"
    before = file.stat()
    torch.save({"state_dict": original().state_dict(), "note": "longer"}, file)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert there.known() is None


@pytest.mark.parametrize(
    "changes",
    [{"preprocessing": {**SIZE, "crop": 0.5}}, {"license": "mit"}, {"group": "cnn"}, {"arguments": {"in_chans": 3}}],
)
def test_another_entry_is_another_model(there, changes):
    assert replace(there, entry=there.entry.model_copy(update=changes)).known() is None


def test_other_classes_or_decisions_or_places_are_another_model(there):
    assert replace(there, classes=classes_of(6)).known() is None
    flipped = tuple(one.model_copy(update={"decision": 1 - one.decision}) for one in there.classes)
    assert replace(there, classes=flipped).known() is None
    assert replace(there, weights="./net.pth").known() is None


def test_another_head_is_noticed(tmp_path):
    network = original()
    torch.save({n: v for n, v in network.state_dict().items() if not n.startswith("fc.")}, tmp_path / "net.pth")
    torch.save(heads_of(network, "fc"), tmp_path / "head.pth")
    source = model(tmp_path, head="head.pth")
    source.fetch()
    assert source.known() is not None
    torch.save(prefixed(heads_of(original(seed=2), "fc"), "longer."), tmp_path / "head.pth")
    assert source.known() is None


def test_a_damaged_card_is_as_none(there):
    (there.folder / CARD).write_text("{")
    assert there.known() is None
    there.fetch()
    assert there.known() is not None


def test_pruned_weights_are_gone_but_known_and_come_back_as_the_same_bytes(there):
    card = there.known()
    there.prune()
    assert [path.name for path in there.folder.iterdir()] == [CARD]
    assert there.known() == card
    there.prune()  # twice does no harm
    assert there.fetch() == card
    assert sha256(there.folder / WEIGHTS) == card.weights_sha256
    same_logits(there, original())


def test_pruning_leaves_the_file_that_it_came_from(there):
    there.prune()
    assert (there.root / "net.pth").is_file()


def test_what_cannot_be_fetched_again_leaves_the_old_checkpoint(there):
    kept = {path.name: path.read_bytes() for path in there.folder.iterdir()}
    (there.root / "net.pth").write_bytes(b"spoiled")
    with pytest.raises(AdvalignError):
        there.fetch()
    assert {path.name: path.read_bytes() for path in there.folder.iterdir()} == kept
    assert there.known() is None


# what the card says


@pytest.mark.parametrize(
    ("group", "recipe"),
    [("cnn", "pretrained"), ("vit", "pretrained"), ("hybrid", "pretrained"), ("ssl", "pretrained"),
     ("harmonized", "harmonized"), ("robust", "robust")],
)  # fmt: skip
def test_the_recipe_is_told_by_the_group(group, recipe, tmp_path):
    torch.save(original().state_dict(), tmp_path / "net.pth")
    card = model(tmp_path, group=group).fetch()
    assert (card.recipe, card.group) == (recipe, group)
    assert card.baseline == (None if recipe == "pretrained" else "test_resnet.baseline")


def test_the_card_says_what_the_model_is_and_where_it_came_from(there):
    card = there.known()
    assert (card.name, card.architecture, card.license, card.recipe) == ("net", "test_resnet", "apache-2.0", "robust")
    assert card.settings["weights"] == "net.pth"
    assert card.settings["zoo"]["group"] == "robust"
    assert [one.wnid for one in card.classes] == [f"n{index:08}" for index in range(5)]
    assert card.group_of_class == [0, 1, 0, 1, 0]
    assert (card.data_md5, card.metrics) == (None, {})
    json.dumps(card.model_dump(mode="json"))


@pytest.mark.parametrize(
    "architecture",
    ["resnet18.tv_in1k", "convnext_small.in12k_ft_in1k_384", "vit_medium_patch16_gap_384.sw_in12k_ft_in1k",
     "test_vit.r160_in1k"],
)  # fmt: skip
def test_preprocessing_is_timms_with_what_the_entry_says_otherwise(architecture, tmp_path):
    with torch.device("meta"):
        theirs = resolve_model_data_config(timm.create_model(architecture))
    names = {
        "interpolation": "interpolation",
        "crop": "crop_pct",
        "crop_mode": "crop_mode",
        "mean": "mean",
        "std": "std",
    }
    expected = {ours: theirs[name] for ours, name in names.items()} | {"input_size": theirs["input_size"][-1]}
    assert model(tmp_path, architecture=architecture, preprocessing={}).preprocessing().model_dump() == expected
    if "384" in architecture:
        assert expected["crop_mode"] == "squash"
    changes = {"crop": 0.5, "crop_mode": "border", "interpolation": "nearest", "std": (0.1, 0.2, 0.3)}
    changed = model(tmp_path, architecture=architecture, preprocessing=changes).preprocessing()
    assert changed.model_dump() == expected | changes


def test_the_entrys_normalisation_is_what_the_fetched_model_computes_with(tmp_path):
    network = original()
    torch.save(network.state_dict(), tmp_path / "net.pth")
    changes = {**SIZE, "mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6], "interpolation": "bilinear"}
    source = model(tmp_path, preprocessing=changes)
    card = source.fetch()
    mean, std = torch.tensor(changes["mean"]).view(1, 3, 1, 1), torch.tensor(changes["std"]).view(1, 3, 1, 1)
    with torch.no_grad():
        assert torch.equal(load_checkpoint(source.folder)[0](pixels()), network((pixels() - mean) / std))
    assert (card.preprocessing.mean, card.preprocessing.interpolation) == ((0.1, 0.2, 0.3), "bilinear")


def test_another_input_size_of_a_transformer_is_built_in(tmp_path):
    network = original("test_vit", size=64)
    torch.save(network.state_dict(), tmp_path / "net.pth")
    source = model(tmp_path, architecture="test_vit", preprocessing={"input_size": 64})
    source.fetch()
    same_logits(source, network, "test_vit", size=64)


# the hub, by its own protocol

FETCH = """
import json, sys
from pathlib import Path
from tests.unit.models.test_fetched import model
from advalign.errors import AdvalignError
for root in sys.stdin:
    try:
        model(Path(root.strip()), "hub", 1000, architecture="test_resnet.r160_in1k", preprocessing={}).fetch()
        print(json.dumps("fetched"), flush=True)
    except AdvalignError as error:
        print(json.dumps(f"refused: {error}"), flush=True)
"""
COMMIT = "0123456789abcdef0123456789abcdef01234567"
FILE = "/timm/test_resnet.r160_in1k/resolve/main/model.safetensors"


class Hub(BaseHTTPRequestHandler):
    """As much of the hub as a download of one file needs."""

    def answer(self, with_body):
        self.server.asked.append((self.command, self.path))
        content = self.server.files.get(self.path)
        self.send_response(200 if content is not None else 404)
        if content is None:
            self.send_header("X-Error-Code", "RepoNotFound")
            content = b""
        self.send_header("ETag", '"0f1e2d3c"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if with_body:
            self.wfile.write(content)

    def do_HEAD(self):
        self.answer(False)

    def do_GET(self):
        self.answer(True)

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def fetching(tmp_path_factory):
    """A process that fetches into the folders it is told: huggingface_hub reads its environment when it is imported."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    home = tmp_path_factory.mktemp("hub")
    environment = os.environ | {
        "HF_ENDPOINT": f"http://127.0.0.1:{port}",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DOWNLOAD_TIMEOUT": "2",
        "HF_HUB_ETAG_TIMEOUT": "2",
        "HF_HOME": str(home),
        "PYTHONPATH": str(REPOSITORY),
        "OMP_NUM_THREADS": "1",
        "NO_PROXY": "127.0.0.1",
    }
    environment.pop("HF_HUB_OFFLINE", None)
    command = [sys.executable, "-c", FETCH]
    with subprocess.Popen(
        command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield SimpleNamespace(port=port, home=home, process=process)


@pytest.fixture
def hub(fetching):
    """The hub that the process asks, with nothing in it."""
    server = ThreadingHTTPServer(("127.0.0.1", fetching.port), Hub)
    server.files, server.asked = {}, []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def fetch(fetching, root):
    """What came of it."""
    print(root, file=fetching.process.stdin, flush=True)
    return json.loads(fetching.process.stdout.readline())


def hidden(root):
    return [str(path) for path in (root / "outputs").rglob("*") if path.name.startswith(".hub")]


@pytest.mark.slow
@pytest.mark.xdist_group("hub")
def test_weights_come_from_the_hub_and_leave_no_cache_behind(hub, fetching, tmp_path):
    network = original(classes=1000, size=160)
    hub.files[FILE] = save(copied(network))
    assert fetch(fetching, tmp_path) == "fetched"
    source = model(tmp_path, "hub", 1000, architecture="test_resnet.r160_in1k", preprocessing={})
    card = same_logits(source, network, "test_resnet.r160_in1k", size=160)
    assert source.known() == card
    assert ("GET", FILE) in hub.asked
    assert hidden(tmp_path) == []
    assert sorted(path.name for path in source.folder.iterdir()) == sorted([WEIGHTS, CARD])
    assert not list(fetching.home.rglob("*.safetensors"))  # nor in the user's cache


def refused_by_hub(fetching, root):
    line = fetch(fetching, root)
    assert "\n" not in line
    assert line.startswith("refused: the weights of 'test_resnet.r160_in1k' cannot be fetched: ")
    assert "put the file on disk and name it in the zoo (weights: FILE)" in line
    assert hidden(root) == []
    assert not (root / "outputs" / "zoo" / "net").exists()
    return line


@pytest.mark.slow
@pytest.mark.xdist_group("hub")
@pytest.mark.timeout(120, func_only=True)  # timm alone would ask for longer
def test_a_hub_that_does_not_have_them_is_one_line(hub, fetching, tmp_path):
    refused_by_hub(fetching, tmp_path)


@pytest.mark.slow
@pytest.mark.xdist_group("hub")
@pytest.mark.timeout(120, func_only=True)  # timm alone would ask for longer
def test_a_hub_that_is_not_there_is_one_line_and_soon(hub, fetching, tmp_path):
    hub.shutdown()
    hub.server_close()
    refused_by_hub(fetching, tmp_path)


@pytest.mark.slow
@pytest.mark.xdist_group("hub")
@pytest.mark.timeout(120, func_only=True)
def test_what_the_hub_has_that_does_not_fit_is_one_line(hub, fetching, tmp_path):
    hub.files[FILE] = save(copied(original("test_vit")))
    refused_by_hub(fetching, tmp_path)
