"""Networks for 32 pixels: the stem's shape, the number of tokens and of parameters, and the same values as timm's."""

import pytest
import timm
import torch
from torch import nn

from advalign.models.origins import origin_of
from advalign.models.origins.cifar import NETWORKS
from advalign.models.zoo import create_classifier, create_network, default_preprocessing

torch.set_num_threads(1)
PARAMETERS = {  # of ten classes; the paper prints 11.2 and 22.1 million
    "resnet18_cifar": 11_173_962,
    "vit_small_patch2_32": 21_402_250,
    "vit_small_patch4_32": 21_342_346,
    "vit_small_patch8_32": 21_379_210,
}


@pytest.mark.parametrize("name", NETWORKS)
def test_parameters_by_value(name):
    with torch.device("meta"):
        network = create_network(name, 10, 32)
    assert sum(one.numel() for one in network.parameters()) == PARAMETERS[name]


def test_vit_small_of_the_paper_has_its_parameters_at_224_pixels_and_1000_classes():
    with torch.device("meta"):
        network = create_network("vit_small_patch16_224", 1000, 224)
    assert round(sum(one.numel() for one in network.parameters()) / 1e6, 1) == 22.1


def test_the_stem_keeps_the_resolution():
    classifier = create_classifier("resnet18_cifar", 10, 32, seed=0).eval()
    seen = {}
    for name in ("conv1", "maxpool", "layer1", "layer4"):
        getattr(classifier.network, name).register_forward_hook(
            lambda _, __, found, name=name: seen.update({name: tuple(found.shape[1:])})
        )
    assert classifier(torch.rand(2, 3, 32, 32)).shape == (2, 10)
    assert seen == {"conv1": (64, 32, 32), "maxpool": (64, 32, 32), "layer1": (64, 32, 32), "layer4": (512, 4, 4)}
    conv = classifier.network.conv1
    assert (conv.kernel_size, conv.stride, conv.padding, conv.bias) == ((3, 3), (1, 1), (1, 1), None)
    spread = (2 / (64 * 9)) ** 0.5  # of He's initialisation by outputs, as timm's other convolutions have it
    assert float(conv.weight.detach().std()) == pytest.approx(spread, rel=0.1)
    assert float(classifier.network.layer1[0].conv1.weight.detach().std()) == pytest.approx(spread, rel=0.1)


def test_all_but_the_stem_is_timms_resnet18():
    ours, theirs = create_network("resnet18_cifar", 10, 32), timm.create_model("resnet18", num_classes=10)
    theirs.conv1, theirs.maxpool = nn.Conv2d(3, 64, 3, padding=1, bias=False), nn.Identity()
    theirs.load_state_dict(ours.state_dict())
    images = torch.rand(2, 3, 32, 32)
    assert torch.equal(ours.eval()(images), theirs.eval()(images))


@pytest.mark.parametrize(("name", "tokens"), [("vit_small_patch2_32", 256), ("vit_small_patch4_32", 64),
                                              ("vit_small_patch8_32", 16)])  # fmt: skip
def test_a_vit_has_a_token_per_patch(name, tokens):
    with torch.device("meta"):
        network = create_network(name, 10, 32)
    assert network.patch_embed.num_patches == tokens
    assert (network.embed_dim, len(network.blocks), network.blocks[0].attn.num_heads) == (384, 12, 6)


def test_weights_are_the_seeds_and_pixels_are_normalised_as_cifars():
    one, same, other = (create_classifier("resnet18_cifar", 10, 32, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(one.network.conv1.weight, same.network.conv1.weight)
    assert not torch.equal(one.network.conv1.weight, other.network.conv1.weight)
    told = default_preprocessing("resnet18_cifar", 32)
    assert told.input_size == 32
    assert told.mean == pytest.approx((0.4914, 0.4822, 0.4465))
    assert told.std == pytest.approx((0.2470, 0.2435, 0.2616))
    assert origin_of("resnet18_cifar").code_sha256() is None
