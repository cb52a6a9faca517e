"""The saliency-alignment term by value, its floor as printed, and its controls."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from advalign.errors import InputError
from advalign.models.zoo import create_classifier
from advalign.recipes.aligned import Aligned
from advalign.recipes.aligned_adversarial import AlignedAdversarial
from advalign.recipes.base import Position
from advalign.recipes.terms.removal import divergence, without_surroundings
from advalign.recipes.terms.saliency import alignment, floor, squash
from tests.tiny_recipes import batch, double, net, smooth_net

torch.set_num_threads(1)
POSITION = Position(0, 10)


def masks(*shares, side=10):
    found = torch.zeros(len(shares), side * side, dtype=torch.float64)
    for mask, share in zip(found, shares, strict=True):
        mask[: round(share * side * side)] = 1
    return found.reshape(len(shares), side, side)


def everywhere(wanted):
    return torch.ones(len(wanted), dtype=torch.bool)


@pytest.mark.parametrize("share", [0.1, 0.3, 0.5, 0.63])
def test_as_printed_a_quarter_of_what_is_no_object_remains(share):
    """.25 (1 - p): the sigmoid of a rectified map is at least one half."""
    wanted = masks(share)
    left = 0.25 * (1 - share)
    assert floor(wanted, everywhere(wanted), released=True).item() == pytest.approx(left, abs=1e-12)
    best = squash(1000 * (2 * wanted - 1), released=True)
    assert alignment(best, wanted, everywhere(wanted)).item() == pytest.approx(left, abs=1e-12)
    generator = torch.Generator().manual_seed(0)
    for scale in (0.1, 1, 10, 1000):
        maps = scale * torch.randn(1, 10, 10, generator=generator, dtype=torch.float64)
        assert alignment(squash(maps, released=True), wanted, everywhere(wanted)).item() >= left


def test_the_printed_losses_need_masks_of_62_to_64_percent():
    for loss, share in ((0.089, 0.644), (0.095, 0.62)):
        wanted = masks(share, side=100)
        assert floor(wanted, everywhere(wanted), released=True).item() == pytest.approx(loss, abs=2e-4)


@pytest.mark.parametrize("share", [0.1, 0.3, 0.5])
def test_the_standardised_form_leaves_less_by_value(share):
    wanted = masks(share)
    on, off = math.sqrt((1 - share) / share), -math.sqrt(share / (1 - share))
    scale = math.sqrt(share * (1 - share)) / (math.sqrt(share * (1 - share)) + 1e-5)
    left = share * (1 - 1 / (1 + math.exp(-scale * on))) ** 2 + (1 - share) / (1 + math.exp(-scale * off)) ** 2
    assert floor(wanted, everywhere(wanted), released=False).item() == pytest.approx(left, abs=1e-12)
    assert left < 0.25 * (1 - share)
    maps = 7 * wanted - 3  # any map that is the mask up to scale
    assert alignment(squash(maps, released=False), wanted, everywhere(wanted)).item() == pytest.approx(left, abs=1e-5)


def test_images_without_a_mask_add_nothing_but_count():
    wanted, has_mask = masks(0.3, 0.5), torch.tensor([True, False])
    maps = torch.rand(2, 10, 10, dtype=torch.float64)
    alone = alignment(maps[:1], wanted[:1], everywhere(wanted[:1]))
    torch.testing.assert_close(alignment(maps, wanted, has_mask), alone / 2)


def closed_form(model, sample, values):
    """The loss of a network with global pooling from its weights: NumPy and the closed form of Grad-CAM."""
    features = model.forward_features(sample.images).detach()
    cam = torch.einsum("nk,nkhw->nhw", model.fc.weight.detach()[sample.labels] / features.shape[2:].numel(), features)
    maps = nn.functional.interpolate(cam[:, None], size=(32, 32), mode="bilinear", align_corners=False)[:, 0].numpy()
    if values.get("released"):
        shown = np.maximum(maps, 0)
    else:
        shown = (maps - maps.mean((1, 2), keepdims=True)) / (maps.std((1, 2), keepdims=True) + 1e-5)
    squashed = 1 / (1 + np.exp(-shown))
    token = sample.has_heatmap.numpy()[:, None, None]
    term = (token * (squashed - sample.heatmaps.numpy()) ** 2).mean()
    cross_entropy = nn.functional.cross_entropy(model(sample.images), sample.labels).item()
    return cross_entropy + 0.1 * term, term


@pytest.mark.parametrize("values", [{}, {"released": True}])
def test_the_loss_by_value(values):
    classifier = create_classifier("test_resnet", 5, 32, seed=0, arguments={"output_stride": 8})
    model = classifier.network.double().eval()
    model.fc.weight.data *= 100  # logits of a trained size
    sample = double(batch())
    sample = replace(sample, images=torch.rand(6, 3, 32, 32).double(), heatmaps=torch.rand(6, 32, 32).double())
    result = Aligned(Aligned.Settings(**values))(model, sample, POSITION)
    loss, term = closed_form(model, sample, values)
    assert result["saliency_term"].item() == pytest.approx(term, rel=1e-9)
    assert result["loss"].item() == pytest.approx(loss, rel=1e-9)
    assert {"saliency_floor", "cross_entropy"} < set(result)


def test_training_pulls_the_map_onto_the_mask():
    torch.manual_seed(0)
    classifier = create_classifier("test_resnet", 5, 32, seed=0, arguments={"output_stride": 8}).train()
    sample = batch()
    wanted = torch.zeros(6, 32, 32)
    wanted[:, :16, :16] = 1
    sample = replace(sample, images=torch.rand(6, 3, 32, 32), heatmaps=wanted, has_heatmap=torch.ones(6).bool())
    recipe, optimiser = Aligned(Aligned.Settings(beta=5.0)), torch.optim.Adam(classifier.parameters(), 1e-3)
    terms = []
    for step in range(25):
        result = recipe(classifier, sample, Position(step, 25))
        optimiser.zero_grad()
        result["loss"].backward()
        optimiser.step()
        terms.append(result["saliency_term"].item())
    assert terms[-1] - result["saliency_floor"].item() < 0.5 * (terms[0] - result["saliency_floor"].item())


def test_rollout_is_pulled_too():
    classifier = create_classifier(
        "vit_tiny_patch16_224", 5, 32, seed=0, arguments={"patch_size": 8, "depth": 2, "embed_dim": 24},
        twice_differentiable=True,
    )  # fmt: skip
    sample = replace(batch(), images=torch.rand(6, 3, 32, 32), heatmaps=torch.rand(6, 32, 32))
    result = Aligned(Aligned.Settings(explanation="rollout"))(classifier.train(), sample, POSITION)
    (gradient,) = torch.autograd.grad(
        result["loss"] - result["cross_entropy"], classifier.network.blocks[0].attn.qkv.weight
    )
    assert gradient.abs().sum() > 0
    with pytest.raises(InputError, match="use rollout for a vision transformer"):
        Aligned(Aligned.Settings())(classifier, sample, POSITION)


def test_shuffled_masks_are_those_of_the_image_before():
    sample, model = double(batch()), smooth_net()
    moved = replace(sample, heatmaps=sample.heatmaps.roll(1, 0), has_heatmap=sample.has_heatmap.roll(1, 0))
    control = Aligned(Aligned.Settings(masks="shuffled"))(model, sample, POSITION)
    assert control["saliency_term"] == Aligned(Aligned.Settings())(model, moved, POSITION)["saliency_term"]
    alone = replace(
        sample, **{key: getattr(sample, key)[:1] for key in ("images", "labels", "heatmaps", "has_heatmap")}
    )
    with pytest.raises(InputError, match="expected 2 or more"):
        Aligned(Aligned.Settings(masks="shuffled"))(model, alone, POSITION)


def test_the_centre_control_knows_the_masks_area_alone():
    sample, model = double(batch()), smooth_net()
    wanted = (sample.heatmaps > 0.6).double()
    turned = replace(sample, heatmaps=wanted.flip(1))
    sample = replace(sample, heatmaps=wanted)
    control = Aligned(Aligned.Settings(masks="centre"))
    first, second = (control(model, one, POSITION)["saliency_term"] for one in (sample, turned))
    assert first == second
    own = [Aligned(Aligned.Settings())(model, one, POSITION)["saliency_term"] for one in (sample, turned)]
    assert own[0] != own[1]


def test_on_adversarial_batches_the_term_is_of_the_adversarial_images():
    sample, model = double(batch()), smooth_net()
    recipe = AlignedAdversarial(AlignedAdversarial.Settings(mixture="alternating", random_start=False, eps=0.1))
    clean = Aligned(Aligned.Settings())(model, sample, Position(0, 10))
    assert torch.equal(recipe(model, sample, Position(0, 10))["loss"], clean["loss"])
    attacked = recipe(model, sample, Position(1, 10))
    assert attacked["cross_entropy"] > clean["cross_entropy"]
    assert attacked["saliency_term"] != clean["saliency_term"]
    assert attacked["saliency_floor"] == clean["saliency_floor"]


def test_surroundings_become_the_mean_colour():
    image = torch.zeros(1, 3, 2, 2)
    image[0, 0], image[0, 2] = torch.tensor([[1.0, 0.0], [0.0, 0.6]]), 0.5
    removed = without_surroundings(image, torch.tensor([[[1.0, 0.0], [0.25, 0.0]]]))
    torch.testing.assert_close(removed[0, 0], torch.tensor([[1.0, 0.4], [0.3, 0.4]]))  # the red mean is 0.4
    torch.testing.assert_close(removed[0, 1:], image[0, 1:])


def test_the_divergence_by_value():
    """KL(p || q) of p = (1/2, 1/2) and q = (1/4, 3/4) is log(2) / 2 + log(2/3) / 2; without a mask it is 0."""
    logits = torch.zeros(2, 2, dtype=torch.float64)
    removed = torch.tensor([[0.0, math.log(3)], [5.0, -5.0]], dtype=torch.float64)
    apart = 0.5 * math.log(2) + 0.5 * math.log(2 / 3)
    found = divergence(logits + 7, removed, torch.tensor([True, False]))
    assert found.item() == pytest.approx(apart / 2, rel=1e-12)


def test_removal_is_part_of_the_loss_by_value():
    sample, model = double(batch()), smooth_net()
    plain = Aligned(Aligned.Settings())(model, sample, POSITION)
    assert "removal_term" not in plain
    result = Aligned(Aligned.Settings(removal=3.0))(model, sample, POSITION)
    kept = sample.heatmaps[:, None].numpy()
    means = sample.images.mean((2, 3), keepdim=True).numpy()
    removed = torch.from_numpy(kept * sample.images.numpy() + (1 - kept) * means)
    p, q = (torch.softmax(model(images), 1).detach().numpy() for images in (sample.images, removed))
    term = (sample.has_heatmap.numpy() * (p * np.log(p / q)).sum(1)).mean()
    assert result["removal_term"].item() == pytest.approx(term, rel=1e-9)
    assert result["loss"].item() == pytest.approx(plain["loss"].item() + 3 * term, rel=1e-9)


def test_what_lies_off_the_object_is_what_removal_punishes():
    """A network that reads the object alone has no term; one that reads the background has."""
    sample = batch()
    masks = torch.zeros(6, 16, 16)
    masks[:, :8] = 1

    class Reads(nn.Module):
        def __init__(self, rows):
            super().__init__()
            self.rows, self.fc = rows, nn.Linear(3 * 8 * 16, 5)

        def forward(self, images):
            return self.fc(images[:, :, self.rows].flatten(1))

    term = Aligned(Aligned.Settings(removal=1.0, beta=0.0))
    sample = replace(sample, heatmaps=masks)
    on, off = (term(Reads(rows), sample, POSITION)["removal_term"].item() for rows in (slice(8), slice(8, 16)))
    assert on == pytest.approx(0, abs=1e-7)
    assert off > 1e-3


def test_removal_leaves_the_running_statistics_alone():
    def statistics(removal):
        model = net()
        Aligned(Aligned.Settings(beta=0.0, removal=removal))(model, batch(), POSITION)
        return model[1].state_dict()

    plain, removing = statistics(0.0), statistics(1.0)
    assert all(torch.equal(plain[key], removing[key]) for key in plain)


def test_the_controls_remove_around_another_mask():
    sample, model = double(batch()), smooth_net()
    moved = replace(sample, heatmaps=sample.heatmaps.roll(1, 0), has_heatmap=sample.has_heatmap.roll(1, 0))
    control = Aligned(Aligned.Settings(masks="shuffled", removal=1.0))(model, sample, POSITION)
    own, other = (Aligned(Aligned.Settings(removal=1.0))(model, one, POSITION) for one in (sample, moved))
    assert control["removal_term"] == other["removal_term"] != own["removal_term"]
