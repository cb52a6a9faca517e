"""Measurements in Python: by value where the optimum is known, and one line for everything that cannot be measured."""

import subprocess
import sys

import pytest
import torch
from torch import nn

import advalign
from advalign.errors import InputError
from advalign.tensors.ranks import rank_correlation

torch.set_num_threads(1)

LIGHT = """
import sys
heavy = {"torch", "numpy", "pandas", "mlflow", "dvc", "timm", "torchvision", "pydantic"}
import advalign
assert not heavy & set(sys.modules), heavy & set(sys.modules)
import torch
net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(48, 3)).eval()
images = torch.rand(2, 3, 4, 4)
found = advalign.minimum_norm(net, images, net(images).argmax(1), budget="fast")
advalign.alignment(found.perturbations, torch.rand(2, 4, 4))
assert not {"mlflow", "dvc", "pandas", "timm", "torchvision", "ray", "great_expectations"} & set(sys.modules)
"""


def linear(weights):
    """Logits 0 and w . x - 1.5 of images: the distance to the boundary is |w . x - 1.5| / ||w||."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(weights.numel(), 2)).eval()
    with torch.no_grad():
        net[1].weight.copy_(torch.stack([torch.zeros_like(weights), weights]))
        net[1].bias.copy_(torch.tensor([0.0, -1.5]))
    return net


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(0)
    return 0.4 + 0.2 * torch.rand(6, 3, 5, 5, generator=generator), torch.rand(75, generator=generator) / 20


def test_importing_costs_nothing_and_measuring_needs_neither_mlflow_nor_dvc():
    done = subprocess.run([sys.executable, "-c", LIGHT], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_norms_are_the_distances_to_a_linear_boundary(batch):
    images, weights = batch
    net = linear(weights)
    labels = net(images).argmax(1)
    labels[0] = 1 - labels[0]
    kept = images.clone()
    found = advalign.minimum_norm(net, images, labels)
    distance = ((images.flatten(1) @ weights - 1.5).abs() / weights.norm()).double()
    assert found.status == ("misclassified_clean", *["ok"] * 5)
    torch.testing.assert_close(found.norms[1:], distance[1:], rtol=2e-3, atol=0)
    assert found.norms[0].isnan()
    assert found.passes[0] == 1
    assert (found.passes[1:] > 4 + 38).all()  # one other class to screen, one direction to polish
    torch.testing.assert_close(found.perturbations, found.adversarials - images)
    logits = net(found.adversarials[1:]).gather(1, torch.stack([labels[1:], 1 - labels[1:]], 1))
    assert (logits[:, 0] - logits[:, 1] < 1e-5).all()  # on the boundary, up to another batch's rounding
    assert torch.equal(images, kept)


def test_linf_norms_are_the_distances_to_a_linear_boundary(batch):
    images, weights = batch
    net = linear(weights)
    labels = net(images).argmax(1)
    found = advalign.minimum_norm(net, images, labels, norm="linf")
    distance = ((images.flatten(1) @ weights - 1.5).abs() / weights.abs().sum()).double()
    assert set(found.status) == {"ok"}
    torch.testing.assert_close(found.norms, distance, rtol=5e-3, atol=0)
    assert torch.equal(found.norms, found.perturbations.double().abs().flatten(1).amax(1))


def test_a_decision_may_be_a_group_of_classes(batch):
    images, _ = batch
    torch.manual_seed(1)
    net = nn.Sequential(nn.Flatten(), nn.Linear(75, 4)).eval()
    groups = torch.tensor([0, 0, 1, 1])
    labels = groups[net(images).argmax(1)]
    found = advalign.minimum_norm(net, images, labels, budget="fast", groups=[0, 0, 1, 1])
    assert set(found.status) == {"ok"}
    assert (groups[net(found.adversarials).argmax(1)] != labels).all()
    alone = advalign.minimum_norm(net, images, net(images).argmax(1), budget="fast")
    assert (found.norms >= alone.norms * 0.999).all()  # to leave a group is farther than to leave a class


def test_a_network_that_works_in_place_changes_no_image(batch):
    images, weights = batch
    net = nn.Sequential(nn.Hardtanh(-1, 0.9, inplace=True), *linear(weights)).eval()
    images = torch.cat([images, images + 0.38])
    kept = images.clone()
    found = advalign.minimum_norm(net, images, net(images.clone()).argmax(1), budget="fast")
    assert torch.equal(images, kept)
    assert "ok" in found.status


def test_alignment_is_the_rank_correlation_of_the_largest_value_over_channels(batch):
    images, _ = batch
    perturbations, maps = images - 0.5, torch.rand(6, 5, 5, generator=torch.Generator().manual_seed(2))
    perturbations[2] = 0  # nothing was found
    raw = advalign.alignment(perturbations, maps)
    expected = rank_correlation(perturbations.max(1).values.abs().flatten(1), maps.flatten(1))
    torch.testing.assert_close(raw, expected, equal_nan=True)
    assert raw.isnan().tolist() == [False, False, True, False, False, False]
    torch.testing.assert_close(advalign.alignment(perturbations, maps[:, None], ceiling=0.5), raw / 0.5, equal_nan=True)


NET = nn.Sequential(nn.Flatten(), nn.Linear(75, 3)).eval()
IMAGES, LABELS = torch.full((2, 3, 5, 5), 0.5), torch.tensor([0, 1])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"norm": "l1"}, "norm 'l1' cannot be measured: expected 'l2' or 'linf'"),
        ({"budget": "huge"}, "budget: input should be 'fast', 'standard' or 'thorough', got 'huge'"),
        ({"model": nn.Sequential(nn.Flatten(), nn.Linear(75, 3))}, "training mode"),
        ({"model": "resnet18"}, "expected a torch module"),
        ({"model": nn.Sequential(nn.Flatten(), nn.Linear(7, 3)).eval()}, "the model refuses an image (1, 3, 5, 5)"),
        ({"model": lambda pixels: pixels}, "gives (1, 3, 5, 5) of float32 for one image"),
        ({"model": lambda pixels: NET(pixels) * torch.nan}, "NaN or infinite"),
        ({"images": IMAGES * 255}, "images: expected float32 in [0, 1]"),
        ({"images": IMAGES.double()}, "images: expected float32 in [0, 1]"),
        ({"images": IMAGES * torch.nan}, "images: expected float32 in [0, 1]"),
        ({"images": IMAGES[0]}, "images: expected a tensor (N, 3, H, W)"),
        ({"images": IMAGES.numpy()}, "got ndarray"),
        ({"images": IMAGES[:0]}, "got (0, 3, 5, 5)"),
        ({"labels": torch.tensor([0])}, "labels: expected one for each of 2 images"),
        ({"labels": torch.tensor([0.0, 1.0])}, "labels: expected integers"),
        ({"labels": ["cat", "dog"]}, "labels: expected integers"),
        ({"labels": torch.tensor([0, 3])}, "labels: expected decisions from 0 to 2, got 0 to 3"),
        ({"groups": [0, 1]}, "groups: expected a decision from 0 for each of 3 classes"),
        ({"groups": [0, 1, -1]}, "groups: expected a decision from 0"),
        ({"groups": [0, 0, 0]}, "labels: expected decisions from 0 to 0"),
    ],
)
def test_what_cannot_be_measured_is_one_line(changes, said):
    given = {"model": NET, "images": IMAGES, "labels": LABELS} | changes
    with pytest.raises(InputError) as caught:
        advalign.minimum_norm(**given)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("perturbations", "maps", "ceiling", "said"),
    [
        (IMAGES[0], IMAGES[0], None, "perturbations: expected a tensor (N, 3, H, W)"),
        (IMAGES, torch.rand(2, 4, 4), None, "human_maps: expected a tensor (2, 5, 5)"),
        (IMAGES, torch.rand(2, 5, 5), 0, "ceiling: expected a correlation above 0"),
    ],
)
def test_maps_that_cannot_be_compared_are_one_line(perturbations, maps, ceiling, said):
    with pytest.raises(InputError) as caught:
        advalign.alignment(perturbations, maps, ceiling=ceiling)
    assert said in str(caught.value)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'maximum_norm'"):
        _ = advalign.maximum_norm
