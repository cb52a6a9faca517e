"""Stand-ins: folded batch norms change nothing but rounding, and bfloat16 still sees a minimal perturbation."""

import copy
from functools import cache

import pytest
import torch
from timm.layers import BatchNormAct2d, StdConv2d
from torch import nn

from advalign.models.classifier import Classifier, Preprocessing
from advalign.models.stand_in import fold_batch_norms, stand_in
from advalign.models.zoo import create_classifier

torch.set_num_threads(1)

NAMES = ["test_resnet", "test_efficientnet", "mobilenetv3_small_050"]
ROUNDING = 1e-4  # relative to the spread of the logits
PLAIN = Preprocessing(input_size=16, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))


def images(side=16, count=4):
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def lived(model, seed=0, spread=0.5):
    """The model in evaluation mode with batch norms that have seen something."""
    generator = torch.Generator().manual_seed(seed)
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            for values, centre in ((layer.running_var, 1), (layer.weight, 1), (layer.running_mean, 0), (layer.bias, 0)):
                if values is not None:
                    values.copy_(centre + spread * (2 * torch.rand(values.shape, generator=generator) - 1))
    return model.eval()


@cache
def timm_classifier(name):
    return lived(create_classifier(name, 10, 64, seed=0))


def built(network, **options):
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return lived(Classifier(network(), PLAIN), **options)


def norms(model):
    return sum(isinstance(layer, nn.BatchNorm2d) for layer in model.modules())


def difference(first, second, points):
    """Largest and mean difference of logits, relative to the spread of the first."""
    with torch.no_grad():
        wanted, found = first(points), second(points)
    apart = (found - wanted).abs() / wanted.std()
    return apart.max().item(), apart.mean().item()


def gradient(model, points):
    leaf = points.clone().requires_grad_(True)
    logits = model(leaf)
    (logits[:, 0] - logits[:, 1]).sum().backward()
    return leaf.grad


def plain():
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(inplace=True),
        nn.Conv2d(8, 12, 3, stride=2, groups=4), nn.BatchNorm2d(12, affine=False), nn.SiLU(),
        nn.Conv2d(12, 12, 1), BatchNormAct2d(12), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(48, 5),
    )  # fmt: skip


def test_folding_by_hand():
    convolution, norm = nn.Conv2d(3, 1, 1), nn.BatchNorm2d(1, eps=0.0)
    with torch.no_grad():
        convolution.weight.copy_(torch.tensor([1.0, 2.0, 4.0]).reshape(1, 3, 1, 1))
        convolution.bias.fill_(3.0)
        norm.running_mean.fill_(5.0), norm.running_var.fill_(4.0), norm.weight.fill_(6.0), norm.bias.fill_(7.0)
    folded = fold_batch_norms(nn.Sequential(convolution, norm, nn.Flatten()).eval(), images())
    assert folded[0].weight.flatten().tolist() == [3.0, 6.0, 12.0]  # times 6 / 2
    assert folded[0].bias.item() == (3.0 - 5.0) * 3 + 7
    assert norms(folded) == 0


@pytest.mark.parametrize("name", NAMES)
def test_folded_networks_of_timm_agree_and_have_no_batch_norm_left(name):
    classifier = timm_classifier(name)
    assert norms(classifier) > 10
    folded = fold_batch_norms(classifier, images(64))
    assert norms(folded) == 0
    unseen = images(64, 12)[4:]
    assert difference(classifier, folded, unseen)[0] < ROUNDING
    torch.testing.assert_close(gradient(folded, unseen), gradient(classifier, unseen), rtol=1e-2, atol=1e-5)


def test_a_plain_net_agrees_norms_without_weights_or_with_an_activation_of_their_own_included():
    classifier = built(plain)
    folded = stand_in(classifier, images(), "float32")
    assert (norms(classifier), norms(folded)) == (3, 0)
    assert difference(classifier, folded, images(count=16))[0] < ROUNDING
    # without the activation that sits in timm's norm the logits would be others
    bare = copy.deepcopy(classifier)
    bare.network[7].act = nn.Identity()
    assert difference(classifier, bare, images())[0] > 0.05


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_original_is_left_untouched(precision):
    classifier = built(plain)
    state = {name: value.clone() for name, value in classifier.state_dict().items()}
    layers = list(classifier.named_modules())
    pointers = {name: value.data_ptr() for name, value in classifier.state_dict().items()}
    before = classifier(images())
    found = stand_in(classifier, images(), precision)
    found(images())
    assert [(name, id(layer)) for name, layer in classifier.named_modules()] == [(n, id(one)) for n, one in layers]
    assert {name: value.data_ptr() for name, value in classifier.state_dict().items()} == pointers
    assert all(torch.equal(state[name], value) for name, value in classifier.state_dict().items())
    assert all(not layer._forward_hooks and not layer._forward_pre_hooks for _, layer in layers)
    assert torch.equal(classifier(images()), before)
    assert all(parameter.grad is None for parameter in classifier.parameters())


class OutputUsedTwice(nn.Module):
    """The norm's input goes around the norm as well."""

    def __init__(self):
        super().__init__()
        self.first, self.norm, self.head = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Linear(8, 5)

    def forward(self, points):
        found = self.first(points)
        return self.head((self.norm(found) + found).relu().mean((2, 3)))


class SharedConvolution(nn.Module):
    """One convolution before two norms."""

    def __init__(self):
        super().__init__()
        self.first, self.shared, self.head = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3), nn.Linear(8, 5)
        self.norms = nn.ModuleList([nn.BatchNorm2d(8), nn.BatchNorm2d(8)])

    def forward(self, points):
        found = self.norms[0](self.shared(self.first(points))).relu()
        return self.head(self.norms[1](self.shared(found)).relu().mean((2, 3)))


class SharedNorm(nn.Module):
    """One norm behind two convolutions."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.head = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3), nn.Linear(8, 5)
        self.norm = nn.BatchNorm2d(8)

    def forward(self, points):
        return self.head(self.norm(self.second(self.norm(self.first(points)).relu())).relu().mean((2, 3)))


def standardised():
    return nn.Sequential(
        StdConv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(32, 5)
    )


def activated_in_place_before_the_norm():
    return nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.ReLU(inplace=True), nn.BatchNorm2d(8), nn.AdaptiveAvgPool2d(2), nn.Flatten(),
        nn.Linear(32, 5),
    )  # fmt: skip


def without_running_statistics():
    return nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8, track_running_stats=False), nn.ReLU(), nn.AdaptiveAvgPool2d(2),
        nn.Flatten(), nn.Linear(32, 5),
    )  # fmt: skip


UNFOLDABLE = [
    OutputUsedTwice, SharedConvolution, SharedNorm, standardised, activated_in_place_before_the_norm,
    without_running_statistics,
]  # fmt: skip


@pytest.mark.parametrize("network", UNFOLDABLE)
def test_what_cannot_be_folded_is_left_and_agrees(network):
    classifier = built(network)
    folded = fold_batch_norms(classifier, images())
    assert norms(folded) == norms(classifier) > 0
    assert folded is not classifier
    assert difference(classifier, folded, images())[0] < ROUNDING
    assert all(not layer._forward_hooks and not layer._forward_pre_hooks for layer in folded.modules())


@pytest.mark.parametrize("network", [OutputUsedTwice, standardised, activated_in_place_before_the_norm])
def test_a_wrong_fold_is_noticed_where_the_norms_do_little(network):
    """A stand-in "differs by rounding": a fold that is wrong by a tenth of a percent is none."""
    classifier = built(network, spread=3e-3)
    folded = fold_batch_norms(classifier, images())
    assert difference(classifier, folded, images())[0] < ROUNDING


@pytest.mark.parametrize("name", NAMES)
def test_bfloat16_answers_in_float32_and_comes_close(name):
    classifier = timm_classifier(name)
    found = stand_in(classifier, images(64), "bfloat16")
    assert found(images(64)).dtype == torch.float32
    largest, mean = difference(classifier, found, images(64, 16))
    assert 1e-5 < mean < 0.02
    assert largest < 0.1
    slope = gradient(found, images(64))
    assert slope.dtype == torch.float32
    assert slope.isfinite().all()
    exact = gradient(classifier, images(64))
    cosine = (slope * exact).flatten(1).sum(1) / (slope.flatten(1).norm(dim=1) * exact.flatten(1).norm(dim=1))
    assert cosine.min() > 0.9


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_bfloat16_sees_a_perturbation_that_bfloat16_pixels_cannot_hold(sign):
    """Around 0.5 bfloat16 has steps of 2 to 4 thousandths; the first layer is in float32, so less counts as well."""
    network = timm_classifier("mobilenetv3_small_050").network
    classifier = Classifier(network, PLAIN.model_copy(update={"input_size": 64})).eval()
    found = stand_in(classifier, images(64), "bfloat16")
    grey = torch.full((1, 3, 64, 64), 0.5)
    small = sign * 9e-4 * gradient(classifier, grey).sign()
    assert torch.equal((grey + small).bfloat16(), grey.bfloat16())

    def change(model):
        with torch.no_grad():
            before, after = model(grey)[0], model(grey + small)[0]
        return (after[0] - after[1] - before[0] + before[1]).item()

    def careless(points):
        with torch.autocast("cpu", torch.bfloat16):
            return classifier(points).float()

    assert change(classifier) * sign > 0
    assert 0.5 < change(found) / change(classifier) < 2
    assert change(careless) == 0, "in bfloat16 from the start the perturbation is lost"


def test_bfloat16_is_used_behind_the_first_layer_alone():
    classifier = built(plain)
    seen = []
    classifier.network[0].register_forward_hook(lambda _, inputs, output: seen.append((inputs[0].dtype, output.dtype)))
    classifier.network[3].register_forward_hook(lambda _, __, output: seen.append(output.dtype))
    found = stand_in(classifier, images(), "bfloat16")
    seen.clear()
    found(images())
    assert seen == [(torch.float32, torch.float32), torch.bfloat16]


def test_a_net_without_convolutions_has_its_first_linear_layer_in_float32():
    classifier = built(lambda: nn.Sequential(nn.Flatten(), nn.Linear(768, 32), nn.GELU(), nn.Linear(32, 5)))
    found = stand_in(classifier, images(), "bfloat16")
    largest, _ = difference(classifier, found, images(count=16))
    assert 0 < largest < 0.05
    assert fold_batch_norms(classifier, images())(images()).equal(classifier(images()))
