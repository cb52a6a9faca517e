"""Optimisers, schedules, averages and mixing, each against a computation that is written out here."""

import math
import random

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from timm.optim._optim_factory import list_optimizers
from torch import nn

from advalign.data.batches import Batch
from advalign.errors import InputError
from advalign.models.zoo import create_network
from advalign.settings import TrainSettings
from advalign.tensors.saliency import saliency
from advalign.training.optimisation import Average, Mixing, create_optimiser, create_schedule
from tests.tiny_training import CLASSES, PER_EPOCH, Images, Watcher, fit

torch.set_num_threads(1)

TWICE = ["mobilenetv3_small_050", "test_vit", "test_resnet"]
STEPS = 4 * PER_EPOCH


@pytest.mark.parametrize("architecture", TWICE)
@pytest.mark.parametrize("optimiser", ["adamw", "sgd", "lamb"])
def test_weight_decay_leaves_biases_and_norms_alone(architecture, optimiser):
    network = create_network(architecture, 5, 64)
    made = create_optimiser(network, TrainSettings(weight_decay=0.02, optimiser=optimiser, learning_rate=0.125))
    decay = {id(p): group["weight_decay"] for group in made.param_groups for p in group["params"]}
    assert sum(len(group["params"]) for group in made.param_groups) == len(decay) == len(list(network.parameters()))
    assert {group["lr"] for group in made.param_groups} == {0.125}
    norms = {
        id(parameter)
        for module in network.modules()
        if "norm" in type(module).__name__.lower()
        for parameter in module.parameters(recurse=False)
    }
    assert norms
    for name, parameter in network.named_parameters():
        if name.endswith("bias") or id(parameter) in norms:
            assert decay[id(parameter)] == 0.0, name
        elif name.endswith("weight"):
            assert decay[id(parameter)] == 0.02, name


def test_a_step_of_sgd_and_of_adamw_by_hand():
    """Nesterov's momentum 0.9 is still the gradient itself at the first step, times 1.9; AdamW's is the sign."""
    for optimiser, moved in (("sgd", 1.9 * (0.5 + 0.1 * 2.0)), ("adamw", 1.0 + 0.1 * 2.0)):
        network = nn.Linear(2, 2, bias=False)
        network.weight.data.fill_(2.0)
        made = create_optimiser(network, TrainSettings(optimiser=optimiser, learning_rate=0.01, weight_decay=0.1))
        network.weight.grad = torch.full((2, 2), 0.5)
        made.step()
        torch.testing.assert_close(network.weight.data, torch.full((2, 2), 2.0 - 0.01 * moved))


@pytest.mark.parametrize(
    ("name", "says"),
    [("adamww", "adamw"), ("sdg", "sgd"), ("Lamb", "lamb"), ("", "unknown optimiser ''"), ("no such thing", "unknown")],
)
def test_an_unknown_optimiser_offers_the_nearest(name, says):
    with pytest.raises(InputError, match=f"unknown optimiser .*{says}|{says}") as caught:
        create_optimiser(nn.Linear(2, 2), TrainSettings(optimiser=name))
    assert caught.value.exit_code == 2
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(torch.cuda.is_available(), reason="they may be usable where there is a GPU")
@pytest.mark.parametrize("name", ["fusedadam", "bnbsgd", "adahessian"])
def test_an_optimiser_that_needs_what_is_not_here_is_refused_in_one_line(name):
    with pytest.raises(InputError, match=f"^train.optimiser '{name}' cannot be used here: ") as caught:
        create_optimiser(nn.Linear(2, 2), TrainSettings(optimiser=name))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("schedule", ["onecycle", "cosine", "step"])
@pytest.mark.parametrize("name", ["adafactor", "adagrad", "lion", "muon", "rmsproptf", "adopt", "lars", "nadam"])
def test_every_schedule_serves_every_optimiser(tmp_path, schedule, name):
    assert name in list_optimizers()
    history = fit(tmp_path, optimiser=name, schedule=schedule, epochs=1, learning_rate=1e-3).run([])
    assert math.isfinite(history[0]["loss"])


def rates(tmp_path, cut=None, **values):
    """The rate that each step is taken with; trained in two parts where it is cut off."""
    seen, first = [], fit(tmp_path, save_minutes=1e-9, **values)

    def watch(trained, stop=None):
        trained.optimiser.register_step_pre_hook(
            lambda optimiser, *_: seen.append({g["lr"] for g in optimiser.param_groups})
        )
        trained.run([Watcher(stop)])

    if cut is not None:
        with pytest.raises(KeyboardInterrupt):
            watch(first, cut)
        seen.pop()  # that step was not saved
        first = fit(tmp_path, weights=9, save_minutes=1e-9, **values)
    watch(first)
    return [rate for (rate,) in seen]  # all groups have the same


def cosine(step, rate, total):
    return rate * (1 + math.cos(math.pi * step / total)) / 2


def tenths(step, rate, per_step):
    return rate * 0.1 ** (step // per_step)


def risen(step, rate, steps):
    """Linearly from a thousandth of the highest rate."""
    return rate / 1000 + step * (rate - rate / 1000) / steps


@pytest.mark.parametrize("cut", [None, 2, 5, 11])
@pytest.mark.parametrize("warmup", [0.0, 0.25, 0.3, 0.9])
@pytest.mark.parametrize("optimiser", ["adamw", "sgd"])
def test_cosine_by_value(tmp_path, cut, warmup, optimiser):
    found = rates(tmp_path, cut, schedule="cosine", warmup=warmup, learning_rate=0.03, optimiser=optimiser)
    rising = warmup * STEPS
    expected = [risen(step, 0.03, rising) if step < rising else cosine(step, 0.03, STEPS) for step in range(STEPS)]
    assert found == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("cut", [None, 2, 9])
@pytest.mark.parametrize("warmup", [0.0, 0.125])
@pytest.mark.parametrize("decay_epochs", [1, 2, 30])
def test_steps_of_a_tenth_by_value(tmp_path, cut, warmup, decay_epochs):
    found = rates(tmp_path, cut, schedule="step", warmup=warmup, decay_epochs=decay_epochs, learning_rate=0.03)
    rising = warmup * STEPS
    expected = [
        risen(step, 0.03, rising) if step < rising else tenths(step, 0.03, decay_epochs * PER_EPOCH)
        for step in range(STEPS)
    ]
    assert found == pytest.approx(expected, rel=1e-9)


def test_one_cycle_is_the_same_after_a_resume(tmp_path):
    whole = rates(tmp_path / "whole", schedule="onecycle")
    assert rates(tmp_path / "cut", 5, schedule="onecycle") == whole
    assert max(whole) == pytest.approx(0.01)
    assert whole[0] == pytest.approx(0.001)
    assert whole[-1] == pytest.approx(1e-5)


def test_a_long_schedule_of_the_published_kind_by_value():
    """90 epochs of 5004 steps, five of them rising: no state but the step."""
    settings = TrainSettings(epochs=90, schedule="step", warmup=5 / 90, learning_rate=0.5, optimiser="sgd")
    optimiser = create_optimiser(nn.Linear(2, 2), settings)
    schedule = create_schedule(optimiser, settings, 5004)
    assert optimiser.param_groups[0]["lr"] == pytest.approx(0.0005)
    for epoch, expected in ((2.5, 0.25025), (5, 0.5), (29.999, 0.5), (30, 0.05), (60, 0.005), (89.999, 0.005)):
        schedule.after(math.ceil(epoch * 5004) - 1)
        assert optimiser.param_groups[0]["lr"] == pytest.approx(expected, rel=1e-3)
    assert schedule.state_dict() == {}


@pytest.mark.parametrize("decay", [0.3, 0.9, 0.9999])
def test_the_average_by_value(tmp_path, decay):
    trained = fit(tmp_path, ema=decay, epochs=2)
    seen, averages = [], []

    def look():
        seen.append({name: value.clone().double() for name, value in trained.classifier.state_dict().items()})
        averages.append({name: value.clone() for name, value in trained.result.state_dict().items()})

    trained.run([Watcher(look=look)])
    average = seen[0]  # after the first step it is the weights themselves
    assert len(seen) == 2 * PER_EPOCH
    for step in range(2 * PER_EPOCH):
        keep = min(decay, 1 - (1 + step) ** (-2 / 3))
        for name, value in seen[step].items():
            mean = value if name.endswith("num_batches_tracked") else keep * average[name] + (1 - keep) * value
            average[name] = mean
            torch.testing.assert_close(averages[step][name].double(), mean, rtol=1e-5, atol=1e-7)
    name = "network.0.weight"
    assert (averages[-1][name] - seen[-1][name]).abs().max() > 1e-4


def test_the_average_is_what_is_evaluated_and_kept(tmp_path):
    """Its accuracy is another than the network's while it lags behind."""
    trained = fit(tmp_path, ema=0.9999, epochs=2, learning_rate=0.05)
    history = trained.run([])
    assert trained.result is trained.average.module
    validation = Images(2, 40)
    with torch.no_grad():
        logits = trained.result(validation.pixels.float() / 255)
    assert history[-1]["val_accuracy"] == pytest.approx((logits.argmax(1) == validation.labels).float().mean().item())
    assert not any(module.training for module in trained.result.modules())
    assert not any(parameter.requires_grad for parameter in trained.result.parameters())
    assert all(parameter.requires_grad for parameter in trained.classifier.parameters())
    saved = torch.load(trained.state_file, weights_only=True)
    assert all(torch.equal(saved["average"][name], value) for name, value in trained.result.state_dict().items())
    assert not torch.equal(saved["network"]["0.weight"], saved["average"]["network.0.weight"])


def test_an_average_leaves_the_training_as_it_is(tmp_path):
    plain, averaged = fit(tmp_path / "plain"), fit(tmp_path / "averaged", ema=0.5)
    plain.run([])
    averaged.run([])
    for one, two in zip(plain.classifier.parameters(), averaged.classifier.parameters(), strict=True):
        assert torch.equal(one, two)
    assert [row["loss"] for row in plain.history] == [row["loss"] for row in averaged.history]


def test_one_average_is_kept_for_weights_that_are_given():
    module = nn.Linear(1, 1, bias=False)
    average = Average(module, 0.5)
    for step, value in enumerate([8.0, 2.0, 1.0]):
        module.weight.data.fill_(value)
        average.after(module, step)
    first = 2 ** (-2 / 3)  # weight of the second value; the third one's is 1/2, as the decay is capped
    assert average.module.weight.item() == pytest.approx(((1 - first) * 8 + first * 2) * 0.5 + 0.5, rel=1e-6)


def batch(count=8, size=10, dtype=torch.float32):
    generator = torch.Generator().manual_seed(3)
    return Batch(
        torch.rand(count, 3, size, size, generator=generator, dtype=dtype),
        torch.arange(count) % CLASSES,
        torch.rand(count, size, size, generator=generator, dtype=dtype),
        torch.tensor([True, True, False, True, True, False, False, True][:count]),
    )


def reference(sample, mixup, cutmix, seed):
    """Images, maps and shares of a mixed batch in numpy: one lambda and one box for the batch."""
    rng = np.random.RandomState(seed)
    rng.rand()  # whether to mix: always
    cut = bool(cutmix) and (not mixup or rng.rand() < 0.5)
    lam = rng.beta(cutmix, cutmix) if cut else rng.beta(mixup, mixup)
    images, maps = sample.images.numpy().astype(float), sample.heatmaps.numpy().astype(float)
    if cut:
        height, width = images.shape[2:]
        side = np.sqrt(1 - lam)
        tall, wide = int(height * side), int(width * side)
        y, x = rng.randint(0, height), rng.randint(0, width)
        inside = np.zeros((height, width), dtype=bool)
        inside[max(y - tall // 2, 0) : y + (tall + 1) // 2, max(x - wide // 2, 0) : x + (wide + 1) // 2] = True
        images = np.where(inside, images[::-1], images)
        maps = np.where(inside, maps[::-1], maps)
        lam = 1 - inside.mean()
    else:
        images = lam * images + (1 - lam) * images[::-1]
        maps = lam * maps + (1 - lam) * maps[::-1]
    shares = np.eye(CLASSES)[sample.labels.numpy()]
    return images, maps, lam * shares + (1 - lam) * shares[::-1], cut


@pytest.mark.parametrize(("mixup", "cutmix"), [(0.8, 0.0), (0.0, 1.0), (0.8, 1.0)])
def test_mixing_by_value(mixup, cutmix):
    mixing, kinds = Mixing(TrainSettings(mixup=mixup, cutmix=cutmix), CLASSES), set()
    for seed in [*range(20), 2**32 - 1, 2**32 + 5]:
        found = mixing(batch(), seed)
        images, maps, shares, cut = reference(batch(), mixup, cutmix, seed % 2**32)
        kinds.add(cut)
        np.testing.assert_allclose(found.images.numpy(), images, atol=1e-6)
        np.testing.assert_allclose(found.heatmaps.numpy(), maps, atol=1e-6)
        np.testing.assert_allclose(found.mixture.numpy(), shares, atol=1e-6)
        np.testing.assert_allclose(found.mixture.sum(1).numpy(), 1, atol=1e-6)
        assert torch.equal(found.labels, batch().labels)
        assert found.images.is_contiguous()
        assert found.target is found.mixture
        assert found.mixture.dtype == torch.float32
    assert kinds == ({True, False} if mixup and cutmix else {bool(cutmix)})


def test_a_mixed_image_has_a_map_where_both_have_one():
    found = Mixing(TrainSettings(mixup=1.0), CLASSES)(batch(), 0)
    # pairs (0, 7), (1, 6), (2, 5), (3, 4): both, one, none, both
    assert found.has_heatmap.tolist() == [True, False, False, True, True, False, False, True]


def test_mixing_leaves_its_batch_and_the_global_random_numbers_alone():
    np.random.seed(7)
    random.seed(7)
    torch.manual_seed(7)
    numbers, python, torches = np.random.get_state(), random.getstate(), torch.random.get_rng_state()
    sample = batch()
    first, second, other = (Mixing(TrainSettings(mixup=1.0), CLASSES)(sample, seed) for seed in (0, 0, 1))
    assert all(np.array_equal(one, two) for one, two in zip(np.random.get_state(), numbers, strict=True))
    assert random.getstate() == python
    assert torch.equal(torch.random.get_rng_state(), torches)
    assert torch.equal(first.images, second.images)
    assert not torch.equal(first.images, other.images)
    for name in ("images", "labels", "heatmaps", "has_heatmap"):
        assert torch.equal(getattr(sample, name), getattr(batch(), name))
    assert sample.mixture is None
    assert sample.target is sample.labels


def test_the_global_random_numbers_are_back_also_where_mixing_fails():
    np.random.seed(7)
    before = np.random.get_state()
    with pytest.raises(AssertionError, match="even"):
        Mixing(TrainSettings(mixup=1.0), CLASSES)(batch(7), 0)
    assert all(np.array_equal(one, two) for one, two in zip(np.random.get_state(), before, strict=True))


@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
def test_shares_of_one_class_are_its_label(label_smoothing):
    sample = batch(dtype=torch.float64)
    one_hot = F.one_hot(sample.labels, CLASSES).double()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Tanh(), nn.Flatten(), nn.Linear(256, CLASSES)).double()
    images = sample.images.requires_grad_()
    logits = network(images)
    losses = [F.cross_entropy(logits, target, label_smoothing=label_smoothing) for target in (sample.labels, one_hot)]
    torch.testing.assert_close(*losses, rtol=1e-12, atol=0)
    maps = [saliency(logits, target, images) for target in (sample.labels, one_hot)]
    torch.testing.assert_close(*maps, rtol=1e-12, atol=1e-15)
    torch.testing.assert_close(maps[0], torch.autograd.grad(logits[range(8), sample.labels].sum(), images)[0].mean(1))


def test_saliency_of_a_mixture_is_the_mixture_of_saliencies():
    sample = batch(dtype=torch.float64)
    shares = torch.tensor([[0.2, 0.5, 0.3]], dtype=torch.float64).expand(8, 3)
    network = nn.Sequential(nn.Flatten(), nn.Tanh(), nn.Linear(300, CLASSES)).double()
    images = sample.images.requires_grad_()
    found = saliency(network(images), shares, images)
    each = [saliency(network(images), torch.full((8,), label), images) for label in range(CLASSES)]
    torch.testing.assert_close(found, 0.2 * each[0] + 0.5 * each[1] + 0.3 * each[2])


@pytest.mark.parametrize("differentiable", [True, False])
def test_saliency_can_be_differentiated_again_only_where_asked(differentiable):
    images = batch().images.requires_grad_()
    logits = nn.Sequential(nn.Flatten(), nn.Tanh(), nn.Linear(300, CLASSES))(images)
    assert saliency(logits, batch().labels, images, differentiable=differentiable).requires_grad is differentiable
