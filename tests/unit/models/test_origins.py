"""Where networks come from: torchvision's are torchvision's, and your own code runs only where it is trusted."""

import sys

import pytest
import torch
import torchvision
from safetensors.torch import save_file
from timm.models._registry import _deprecated_models
from torch import nn

from advalign.errors import DataError, InputError
from advalign.models.checkpoints import ClassCard, load_checkpoint
from advalign.models.declared import ZooEntry, read_zoo
from advalign.models.fetched import FetchedModel
from advalign.models.origins import origin_of
from advalign.models.origins.python import VARIABLE, _say
from advalign.models.origins.timm import _say_current, current_name
from advalign.models.zoo import check_input, create_classifier, create_network

torch.set_num_threads(1)

NETS = """
from pathlib import Path

from torch import nn

from own_blocks import first

Path(__file__).with_name("ran").touch()


def small(num_classes, width=4):
    return nn.Sequential(first(width), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(4 * width, num_classes))


def silent():
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 5))


def features(num_classes):
    return nn.Conv2d(3, num_classes, 3)


def text():
    return "a network"


def broken():
    raise OSError("no such file")
"""
BLOCKS = '''
from torch import nn


def first(width):
    """The first layer."""
    return nn.Sequential(nn.Conv2d(3, width, 3), nn.ReLU(inplace=True))
'''
SMALL = "python:own_nets:small"


def one_line(error, *parts):
    text = str(error)
    assert "\n" not in text
    for part in parts:
        assert part in text


@pytest.fixture
def lab(tmp_path, monkeypatch):
    """A project whose own code nobody has trusted yet; the working directory."""
    (tmp_path / "params.yaml").write_text("")
    (tmp_path / "registry").mkdir()
    (tmp_path / "own_nets.py").write_text(NETS)
    (tmp_path / "own_blocks.py").write_text(BLOCKS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    _say.cache_clear()
    yield tmp_path
    for name in ("own_nets", "own_blocks"):
        sys.modules.pop(name, None)


@pytest.fixture
def trusting(lab, monkeypatch):
    monkeypatch.setenv(VARIABLE, " ".join(f"python:own_nets:{name}" for name in (
        "small", "silent", "features", "text", "broken", "absent"
    )))  # fmt: skip
    return lab


def classes_of(count):
    return tuple(ClassCard(wnid=f"n{index:08}", name=f"class {index}", decision=index % 2) for index in range(count))


def model(root, weights, architecture=SMALL, preprocessing=None, **entry):
    values = {"group": "cnn", "architecture": architecture, "preprocessing": preprocessing or {"input_size": 32}}
    folder = root / "outputs" / "zoo" / "net"
    place = (classes_of(5), ("inanimate", "animate"), lambda uri: pytest.fail(f"nothing asked for {uri}"))
    return FetchedModel("net", ZooEntry(**values | entry), weights, folder, root, *place)


# torchvision


def test_a_network_of_torchvision_is_torchvisions():
    torch.manual_seed(3)
    expected = torchvision.models.squeezenet1_1(num_classes=5).eval()
    made = create_classifier("torchvision:squeezenet1_1", 5, 64, seed=3).eval()
    pixels = torch.rand(2, 3, 64, 64)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    with torch.no_grad():
        wanted = expected((pixels - mean.view(3, 1, 1)) / std.view(3, 1, 1))
        torch.testing.assert_close(made(pixels), wanted, rtol=0, atol=1e-6)
    assert wanted.std() > 0


def test_preprocessing_is_what_torchvision_documents():
    known = origin_of("torchvision:vit_h_14").preprocessing()
    assert (known["input_size"], known["crop"], known["interpolation"]) == (518, 1.0, "bicubic")
    known = origin_of("torchvision:squeezenet1_1").preprocessing()
    assert (known["input_size"], known["crop"], known["interpolation"]) == (224, 0.875, "bilinear")


@pytest.mark.parametrize(
    ("architecture", "arguments", "said"),
    [
        ("torchvision:squeezenet1_2", {}, "did you mean 'squeezenet1_"),
        ("torchvision:fasterrcnn_resnet50_fpn", {}, "unknown model of torchvision"),
        ("torchvision:squeezenet1_1", {"weights": "DEFAULT"}, "'weights' is no argument"),
        ("torchvision:squeezenet1_1", {"width": 3}, "cannot be built with {'width': 3}: TypeError"),
        ("torchvision:vit_b_32", {}, "cannot be built with {}: AssertionError: Wrong image height"),
        ("somewhere:resnet18", {}, "cannot name an architecture"),
        ("python:os.path/x:join", {}, "cannot name an architecture"),
    ],
)
def test_what_cannot_be_built_is_one_line(architecture, arguments, said):
    with pytest.raises(InputError) as caught:
        create_network(architecture, 5, 64, arguments)
    one_line(caught.value, said)


def test_a_network_with_auxiliary_outputs_is_not_trained():
    with pytest.raises(InputError) as caught:
        create_classifier("torchvision:googlenet", 5, 64, seed=0, arguments={"init_weights": False})
    one_line(caught.value, "several outputs", "aux_logits: false")


def second_derivative(classifier):
    image = torch.rand(1, 3, 32, 32, requires_grad=True)
    (gradient,) = torch.autograd.grad(classifier(image).sum(), image, create_graph=True)
    gradient.square().sum().backward()
    return sum(float(one.grad.abs().sum()) for one in classifier.parameters() if one.grad is not None)


@pytest.mark.parametrize("name", ["squeezenet1_1", "mobilenet_v3_small"])
def test_hard_activations_and_layers_in_place_are_differentiated_twice(name):
    made = create_classifier(f"torchvision:{name}", 5, 32, seed=0, twice_differentiable=True).eval()
    assert second_derivative(made) > 0


def test_fused_attention_that_has_no_second_derivative_is_refused_in_one_line():
    arguments = {"image_size": 32}
    with pytest.raises(InputError) as caught:
        create_classifier("torchvision:vit_b_32", 5, 32, seed=0, arguments=arguments, twice_differentiable=True)
    one_line(caught.value, "cannot be differentiated twice", "choose a recipe without a map term")


def test_weights_of_torchvision_come_from_a_file_and_never_from_a_hub(tmp_path):
    network = torchvision.models.squeezenet1_1(num_classes=5)
    torch.save(network.state_dict(), tmp_path / "net.pth")
    architecture = "torchvision:squeezenet1_1"
    model(tmp_path, "net.pth", architecture).fetch()
    made, card = load_checkpoint(tmp_path / "outputs" / "zoo" / "net")
    assert (card.architecture, card.preprocessing.input_size, card.code_sha256) == (architecture, 32, None)
    pixels = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(made.network(pixels), network.eval()(pixels))
    for weights, said in (("hub", "the hub has no weights of torchvision:"), ("own", "weights: own is of python:")):
        with pytest.raises(InputError) as caught:
            model(tmp_path, weights, architecture, license="other").fetch()
        one_line(caught.value, said, "name a file")


# names and inputs of timm


def test_a_deprecated_name_is_the_name_that_timm_has_now_and_it_is_said_once(capsys):
    _say_current.cache_clear()
    assert (
        current_name("tf_efficientnet_b0_ap") == current_name("tf_efficientnet_b0_ap") == "tf_efficientnet_b0.ap_in1k"
    )
    said = "advalign: timm calls tf_efficientnet_b0_ap tf_efficientnet_b0.ap_in1k now, and that name is used\n"
    assert capsys.readouterr().err == said
    for name in ("resnet18", "resnet18.a1_in1k", "no_such_network", "torchvision:resnet18", SMALL):
        assert current_name(name) == name
    assert capsys.readouterr().err == ""


def test_deprecated_names_of_timm_have_successors_that_it_knows():
    assert len(_deprecated_models) > 100
    unknown = []
    for name in _deprecated_models:
        try:
            origin_of(current_name(name)).preprocessing()
        except InputError as error:
            one_line(error, "Invalid pretrained tag", "timm has")
            unknown.append(name)
    assert len(unknown) < 5  # timm's own list names a tag that it does not have


def test_a_removed_architecture_is_one_line(monkeypatch):
    monkeypatch.setitem(_deprecated_models, "old_net", None)
    with pytest.raises(InputError) as caught:
        current_name("old_net")
    one_line(caught.value, "model 'old_net' was removed from timm", "name another architecture")


@pytest.mark.parametrize(
    ("architecture", "size", "said"),
    [
        ("vgg11", 16, "with an image of 16 x 16 pixels: choose another size, .* Output size is too small"),
        ("inception_v3", 32, "with an image of 32 x 32 pixels: .* Kernel size can't be greater"),
        ("qwen3_vit_88m_enc", 384, r"it gives \(1, 144, 1024\), expected one logit per class, \(1, 5\)"),
        ("resnet18.no_such_tag", 64, "Invalid pretrained tag"),
    ],
)
def test_what_timms_networks_cannot_take_is_refused_before_anything_starts(architecture, size, said):
    with pytest.raises(InputError, match=said) as caught:
        check_input(architecture, 5, size)
    one_line(caught.value, repr(architecture))


@pytest.mark.parametrize(("architecture", "size"), [("vgg11", 32), ("test_vit", 32), ("test_resnet", 1)])
def test_what_they_can_take_is_not(architecture, size):
    check_input(architecture, 5, size)


@pytest.mark.parametrize(
    ("architecture", "preprocessing", "said"),
    [
        ("vgg11", {"input_size": 16}, "model 'vgg11' cannot be used with an image of 16 x 16 pixels"),
        ("vit_base_patch16_sapiens2", {"crop": 1.0}, "take images of 3 x 1024 x 768, expected 3 channels and a square"),
    ],
)
def test_a_zoo_entry_that_cannot_be_fed_is_refused_before_its_weights_are_read(
    tmp_path, architecture, preprocessing, said
):
    with pytest.raises(InputError) as caught:
        model(tmp_path, "absent.pth", architecture, preprocessing).blank()
    one_line(caught.value, said)


def test_a_zoo_entry_of_a_deprecated_name_is_its_successors(tmp_path):
    assert model(tmp_path, "hub", "tf_efficientnet_b0_ap").architecture == "tf_efficientnet_b0.ap_in1k"


# your own code


def test_a_card_alone_makes_no_code_run(lab):
    with pytest.raises(InputError) as caught:
        create_network(SMALL, 5, 32)
    one_line(caught.value, "not trusted", "registry/zoo.yaml", "--trust-code", f"{VARIABLE}={SMALL}")
    with pytest.raises(InputError):
        model(lab, "own").fetch()
    assert not (lab / "ran").exists()


def test_the_projects_own_zoo_trusts_what_it_names_and_nothing_else(lab, capsys):
    (lab / "registry" / "zoo.yaml").write_text(f"architectures: {{'{SMALL}': cnn}}\n")
    assert create_network(SMALL, 5, 32, {"width": 2})[0][0].out_channels == 2
    create_network(SMALL, 5, 32)
    said = capsys.readouterr().err
    assert said == f"advalign: running your own code: {SMALL} ({lab / 'own_nets.py'})\n"  # once
    with pytest.raises(InputError, match="not trusted"):
        create_network("python:own_nets:silent", 5, 32)


def test_a_zoo_from_elsewhere_trusts_nothing(lab):
    (lab / "theirs.yaml").write_text(f"models: {{net: {{group: cnn, architecture: '{SMALL}', weights: own}}}}\n")
    assert read_zoo(lab / "theirs.yaml").models["net"].architecture == SMALL
    with pytest.raises(InputError, match="not trusted"):
        model(lab, "own").fetch()
    assert not (lab / "ran").exists()


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("features", "gives (1, 5, 30, 30) for an image of 32 x 32 pixels; expected one logit for each of 5 classes"),
        ("text", "returned a str: return a torch.nn.Module"),
        ("broken", "cannot be built with {}: OSError: no such file"),
        ("absent", "cannot be imported: AttributeError"),
    ],
)
def test_code_that_gives_no_classifier_is_one_line(name, said, trusting):
    with pytest.raises(InputError) as caught:
        create_network(f"python:own_nets:{name}", 5, 32)
    one_line(caught.value, said)


def test_a_callable_that_takes_no_number_of_classes_is_not_given_one(trusting):
    assert isinstance(create_network("python:own_nets:silent", 5, 32), nn.Sequential)
    with pytest.raises(InputError, match="one logit for each of 7 classes"):
        create_network("python:own_nets:silent", 7, 32)


def test_weights_are_a_files_or_those_that_the_code_gives(trusting):
    torch.manual_seed(0)
    expected = create_network(SMALL, 5, 32)
    torch.manual_seed(0)
    model(trusting, "own").fetch()
    save_file({name: value + 1 for name, value in expected.state_dict().items()}, trusting / "net.safetensors")
    folder, pixels = trusting / "outputs" / "zoo" / "net", torch.rand(2, 3, 32, 32)
    made, card = load_checkpoint(folder)
    assert (card.preprocessing.mean, card.preprocessing.std) == ((0, 0, 0), (1, 1, 1))  # pixels as they are
    with torch.no_grad():
        assert torch.equal(made(pixels), expected.eval()(pixels))
    model(trusting, "net.safetensors").fetch()
    weights = load_checkpoint(folder)[0].network.state_dict()
    assert all(torch.equal(weights[name], value + 1) for name, value in expected.state_dict().items())
    with pytest.raises(InputError) as caught:
        model(trusting, "hub").fetch()
    one_line(caught.value, "the hub has no weights of python:own_nets:small", "weights: own")


def test_the_size_of_the_input_is_asked_for(trusting):
    with pytest.raises(InputError) as caught:
        model(trusting, "own", preprocessing={"crop": 1.0}).fetch()
    one_line(caught.value, "zoo entry net: preprocessing lacks input_size", "{input_size: 224}")


def test_changed_code_is_another_model_and_described_code_is_not(trusting):
    first = model(trusting, "own")
    card = first.fetch()
    blocks = trusting / "own_blocks.py"
    blocks.write_text(BLOCKS.replace("The first layer.", "The layer that sees pixels."))
    assert first.known() == card
    load_checkpoint(first.folder)
    blocks.write_text(BLOCKS.replace("nn.ReLU(inplace=True)", "nn.Tanh()"))
    assert first.known() is None
    with pytest.raises(DataError) as caught:
        load_checkpoint(first.folder)
    one_line(caught.value, "was changed since the checkpoint was written")
    assert first.fetch().code_sha256 != card.code_sha256
    load_checkpoint(first.folder)


def test_tied_weights_are_kept(trusting):
    (trusting / "own_nets.py").write_text(
        "from torch import nn\n\ndef small():\n    a, b = nn.Linear(9, 9), nn.Linear(9, 9)\n    b.weight = a.weight\n"
        "    return nn.Sequential(nn.Conv2d(3, 5, 30), nn.Flatten(2), a, b, nn.Flatten(), nn.Linear(45, 5))\n"
    )
    model(trusting, "own").fetch()
    made = load_checkpoint(trusting / "outputs" / "zoo" / "net")[0].network
    assert torch.equal(made[2].weight, made[3].weight)
