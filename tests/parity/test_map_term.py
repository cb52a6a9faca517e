"""The neural harmonizer's map term and loss against a written-out computation in numpy, float64."""

import numpy as np
import pytest
import torch
from scipy.signal import convolve2d
from torch import nn

from advalign.data.batches import Batch
from advalign.recipes._pgd import BallSettings, worst_case
from advalign.recipes.base import Position
from advalign.recipes.combined import Combined
from advalign.recipes.harmonized import Harmonized
from advalign.recipes.terms.map import map_term
from advalign.tensors.saliency import saliency

torch.set_num_threads(1)

SIZE, CLASSES = 24, 4
BEGIN = Position(0, 10)


def reference_pyramid(image):
    """Five levels: convolve with the normalised outer product of [1 4 6 4 1], zero padding 2, stride 2."""
    binomial = np.array([1.0, 4.0, 6.0, 4.0, 1.0])
    kernel = np.outer(binomial, binomial) / 256
    levels = [image]
    for _ in range(4):
        levels.append(convolve2d(np.pad(levels[-1], 2), kernel, mode="valid")[::2, ::2])
    return levels


def reference_term(model_maps, human_maps, has_map):
    """Mean over levels of the mean over batch and pixels of t_b (S_l - H_l)^2."""
    per_image = []
    for model, human, token in zip(model_maps, human_maps, has_map, strict=True):
        s = np.maximum((model - model.mean()) / (model.std() + 1e-5), 0)
        h = np.maximum((human - human.mean()) / (human.std() + 1e-5), 0)
        h = h * (s.max() / (h.max() + 1e-6))
        pairs = zip(reference_pyramid(s), reference_pyramid(h), strict=True)
        per_image.append([token * ((a - b) ** 2).mean() for a, b in pairs])
    return np.mean(np.array(per_image), axis=0).mean()  # levels of one size: mean over batch and pixels = mean of means


def random_maps(count=5, size=SIZE, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(count, size, size)), rng.uniform(size=(count, size, size)) ** 3


@pytest.mark.parametrize("size", [16, 24, 37, 64])
def test_the_term_by_value(size):
    model_maps, human_maps = random_maps(size=size)
    has_map = np.array([1, 0, 1, 1, 0])
    found = map_term(torch.tensor(model_maps), torch.tensor(human_maps), torch.tensor(has_map).bool())
    assert found.item() == pytest.approx(reference_term(model_maps, human_maps, has_map), rel=1e-6)


def test_the_term_by_value_in_float32():
    model_maps, human_maps = random_maps()
    found = map_term(torch.tensor(model_maps).float(), torch.tensor(human_maps).float(), torch.ones(5).bool())
    assert found.dtype == torch.float32
    assert found.item() == pytest.approx(reference_term(model_maps, human_maps, np.ones(5)), rel=1e-5)


def test_equal_maps_cost_nothing_and_scale_and_offset_do_not_matter():
    model_maps, human_maps = (torch.tensor(maps) for maps in random_maps())
    every = torch.ones(5).bool()
    assert map_term(human_maps, human_maps, every).item() < 1e-9
    plain = map_term(model_maps, human_maps, every).item()
    assert plain > 0.1
    assert map_term(3 * model_maps - 7, 0.5 * human_maps + 2, every).item() == pytest.approx(plain, rel=1e-3)
    assert map_term(-model_maps, human_maps, every).item() != pytest.approx(plain, rel=1e-3)  # the sign is kept


def test_images_without_a_map_add_zero_but_stay_in_the_mean():
    model_maps, human_maps = (torch.tensor(maps) for maps in random_maps())
    every = torch.ones(5).bool()
    alone = [map_term(model_maps[n : n + 1], human_maps[n : n + 1], every[:1]).item() for n in range(5)]
    token = torch.tensor([True, False, True, False, False])
    assert map_term(model_maps, human_maps, token).item() == pytest.approx((alone[0] + alone[2]) / 5, rel=1e-9)
    assert map_term(model_maps, human_maps, ~every).item() == 0.0
    other = torch.where(token[:, None, None], human_maps, torch.full_like(human_maps, 9.0))
    assert map_term(model_maps, other, token).item() == map_term(model_maps, human_maps, token).item()


@pytest.mark.parametrize("flat", ["model", "human", "both"])
def test_constant_maps_stay_finite_with_their_gradients(flat):
    model_maps, human_maps = (torch.tensor(maps) for maps in random_maps())
    if flat != "human":
        model_maps = model_maps.index_fill(0, torch.tensor([1]), 0.0)
    if flat != "model":
        human_maps = human_maps.index_fill(0, torch.tensor([1]), 0.5)
    model_maps.requires_grad_()
    term = map_term(model_maps, human_maps, torch.ones(5).bool())
    (gradient,) = torch.autograd.grad(term, model_maps)
    assert term.isfinite()
    assert gradient.isfinite().all()


def test_the_human_maps_scale_is_not_differentiated():
    """max(S) is detached: only S itself carries gradients."""
    model_maps, human_maps = (torch.tensor(maps) for maps in random_maps(2))
    model_maps.requires_grad_()
    (found,) = torch.autograd.grad(map_term(model_maps, human_maps, torch.ones(2).bool()), model_maps)
    s, h = model_maps.detach().numpy(), human_maps.numpy()

    def rectified(x):
        return np.maximum((x - x.mean()) / (x.std() + 1e-5), 0)

    def frozen(maps):
        total = 0.0
        for now, settled, human in zip(maps, s, h, strict=True):
            scaled = rectified(human) * (rectified(settled).max() / (rectified(human).max() + 1e-6))
            pairs = zip(reference_pyramid(rectified(now)), reference_pyramid(scaled), strict=True)
            total += np.mean([((a - b) ** 2).mean() for a, b in pairs]) / 2
        return total

    for image, row, column in [(0, 3, 4), (1, 20, 7), (0, *np.unravel_index(s[0].argmax(), s[0].shape))]:
        step = np.zeros_like(s)
        step[image, row, column] = 1e-6
        assert found[image, row, column].item() == pytest.approx((frozen(s + step) - frozen(s - step)) / 2e-6, rel=1e-4)


class Smooth(nn.Module):
    """Logits W2 tanh(W1 x), small enough to differentiate by hand."""

    def __init__(self, size=SIZE, dtype=torch.float64):
        super().__init__()
        generator = torch.Generator().manual_seed(4)
        self.first = nn.Parameter(torch.randn(6, 3 * size * size, generator=generator, dtype=dtype) / size)
        self.second = nn.Parameter(torch.randn(CLASSES, 6, generator=generator, dtype=dtype))

    def forward(self, images):
        return torch.tanh(images.flatten(1) @ self.first.T) @ self.second.T


def batch(size=SIZE, dtype=torch.float64):
    rng = np.random.default_rng(6)
    return Batch(
        torch.tensor(rng.uniform(size=(4, 3, size, size)), dtype=dtype),
        torch.tensor([0, 3, 1, 1]),
        torch.tensor(rng.uniform(size=(4, size, size)), dtype=dtype),
        torch.tensor([True, True, False, True]),
    )


def reference_loss(model, sample, lambda_1, label_smoothing=0.0):
    """Cross-entropy plus lambda_1 times the map term, everything written out."""
    first, second = model.first.detach().numpy(), model.second.detach().numpy()
    images, labels = sample.images.numpy(), sample.labels.numpy()
    hidden = np.tanh(images.reshape(4, -1) @ first.T)
    logits = hidden @ second.T
    log_probabilities = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    target = (1 - label_smoothing) * np.eye(CLASSES)[labels] + label_smoothing / CLASSES
    cross_entropy = -(target * log_probabilities).sum(1).mean()
    gradient = ((second[labels] * (1 - hidden**2)) @ first).reshape(images.shape)
    term = reference_term(gradient.mean(1), sample.heatmaps.numpy(), sample.has_heatmap.numpy())
    return cross_entropy + lambda_1 * term, term, gradient.mean(1)


def test_saliency_is_the_signed_channel_mean_of_the_target_logits_gradient():
    model, sample = Smooth(), batch()
    images = sample.images.requires_grad_()
    found = saliency(model(images), sample.labels, images)
    np.testing.assert_allclose(found.detach().numpy(), reference_loss(model, batch(), 0)[2], rtol=1e-10)
    assert found.min() < 0 < found.max()


@pytest.mark.parametrize(("lambda_1", "label_smoothing"), [(4.0, 0.0), (0.7, 0.1)])
def test_the_harmonized_loss_by_value(lambda_1, label_smoothing):
    recipe = Harmonized(Harmonized.Settings(lambda_1=lambda_1), label_smoothing)
    result = recipe(Smooth(), batch(), BEGIN)
    loss, term, _ = reference_loss(Smooth(), batch(), lambda_1, label_smoothing)
    assert result["loss"].item() == pytest.approx(loss, rel=1e-6)
    assert result["map_term"].item() == pytest.approx(term, rel=1e-6)
    assert result["cross_entropy"].item() == pytest.approx(loss - lambda_1 * term, rel=1e-6)


def test_the_loss_gradient_against_central_differences():
    recipe = Harmonized(Harmonized.Settings(lambda_1=4.0))
    model = Smooth()
    recipe(model, batch(), BEGIN)["loss"].backward()
    largest = model.first.grad.abs().flatten().topk(4).indices.tolist()
    for parameter, positions in ((model.first, [*largest, 5, 777]), (model.second, range(0, 24, 5))):
        flat, gradient = parameter.data.flatten().clone(), parameter.grad.flatten()
        for position in positions:
            losses = []
            for sign in (1, -1):
                moved = flat.clone()
                moved[position] += sign * 1e-5
                with torch.no_grad():
                    parameter.copy_(moved.reshape(parameter.shape))
                # max(S) is detached in the loss, so the difference must hold the human map's scale fixed too
                losses.append(fixed_scale_loss(model, batch(), 4.0))
            with torch.no_grad():
                parameter.copy_(flat.reshape(parameter.shape))
            assert gradient[position].item() == pytest.approx((losses[0] - losses[1]) / 2e-5, rel=1e-4, abs=1e-7)
    assert gradient.abs().max() > 1e-2


def fixed_scale_loss(model, sample, lambda_1):
    """The loss in numpy with max(S) as it is at the unmoved parameters."""
    maps = {key: reference_loss(which, sample, 0)[2] for key, which in (("now", model), ("settled", Smooth()))}
    cross_entropy = reference_loss(model, sample, 0)[0]
    total = 0.0
    for now, settled, human, token in zip(
        maps["now"], maps["settled"], sample.heatmaps.numpy(), sample.has_heatmap.numpy(), strict=True
    ):
        s, at, h = (np.maximum((x - x.mean()) / (x.std() + 1e-5), 0) for x in (now, settled, human))
        pairs = zip(reference_pyramid(s), reference_pyramid(h * at.max() / (h.max() + 1e-6)), strict=True)
        total += token * np.mean([((a - b) ** 2).mean() for a, b in pairs]) / len(sample)
    return cross_entropy + lambda_1 * total


def test_every_n_th_step_only():
    recipe = Harmonized(Harmonized.Settings(lambda_1=4.0, every=3))
    with_map, plain = reference_loss(Smooth(), batch(), 4.0)[0], reference_loss(Smooth(), batch(), 0.0)[0]
    losses = [recipe(Smooth(), batch(), Position(step, 9)) for step in range(7)]
    assert ["map_term" in result for result in losses] == [True, False, False, True, False, False, True]
    expected = [with_map, plain, plain, with_map, plain, plain, with_map]
    assert [result["loss"].item() for result in losses] == pytest.approx(expected, rel=1e-6)
    assert "map_term" not in Harmonized(Harmonized.Settings(lambda_1=0.0))(Smooth(), batch(), BEGIN)


def test_combined_is_the_harmonized_loss_at_the_worst_case_images():
    model, sample = Smooth(dtype=torch.float32), batch(dtype=torch.float32)
    settings = Combined.Settings(constraint="l2", eps=0.5, steps=3, lambda_1=4.0, every=2)
    ball = BallSettings(constraint="l2", eps=0.5, steps=3)
    images = worst_case(model, sample.images, sample.labels, ball, BEGIN)
    moved = Batch(images, sample.labels, sample.heatmaps, sample.has_heatmap)
    expected = Harmonized(Harmonized.Settings(lambda_1=4.0))(model, moved, BEGIN)
    found = Combined(settings)(model, sample, BEGIN)
    for part in ("loss", "map_term", "cross_entropy", "logits"):
        torch.testing.assert_close(found[part], expected[part], rtol=1e-6, atol=1e-7)
    clean = Harmonized(Harmonized.Settings(lambda_1=4.0))(model, sample, BEGIN)
    assert found["cross_entropy"] > clean["cross_entropy"]
