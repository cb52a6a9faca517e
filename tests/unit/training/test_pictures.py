"""Pictures of saliency: by value on a linear model, of the images that are meant, and without a trace in the model."""

import numpy as np
import pytest
import torch
from torch import nn

from advalign.data.batches import TrainingData
from advalign.training.pictures import COUNT, take_pictures
from tests.tiny_training import CLASSES, SETTINGS, SIZE, Images, Watcher, assert_same, data, fit, state

torch.set_num_threads(1)

CPU = torch.device("cpu")


class Linear(nn.Module):
    """Logits W x: the saliency of a class is the channel mean of its weights, whatever the image."""

    def __init__(self, classes=CLASSES):
        super().__init__()
        generator = torch.Generator().manual_seed(4)
        self.weights = nn.Parameter(torch.randn(classes, 3, SIZE, SIZE, generator=generator))

    def forward(self, images):
        return torch.einsum("nchw,kchw->nk", images, self.weights)


class Many(Images):
    """Images of twelve classes, each class three times in a row."""

    def __init__(self):
        super().__init__(3, 36)
        self.labels = torch.arange(36) // 3


def test_saliency_by_value():
    model, images = Linear(), Images(5, 20)
    found = take_pictures(model, TrainingData(images, SETTINGS), CPU)
    numbers = [images.labels.tolist().index(label) for label in found.labels]
    assert sorted(found.labels) == list(range(CLASSES))
    assert numbers == sorted(numbers), "in the order of the data"
    weights = model.weights.detach().mean(1).clamp(min=0)
    np.testing.assert_allclose(found.saliency, weights[found.labels].numpy(), atol=1e-6)
    assert found.saliency.min() == 0
    np.testing.assert_allclose(found.images, images.pixels[numbers].numpy() / 255, atol=1e-6)
    maps = images.pixels[numbers, 0].numpy().astype(float)
    low, high = maps.min((1, 2), keepdims=True), maps.max((1, 2), keepdims=True)
    np.testing.assert_allclose(found.heatmaps, (maps - low) / (high - low), atol=1e-5)
    for part, shape in (("images", (3, 3, SIZE, SIZE)), ("heatmaps", (3, SIZE, SIZE)), ("saliency", (3, SIZE, SIZE))):
        assert getattr(found, part).shape == shape
        assert getattr(found, part).dtype == np.float32


def test_no_more_than_eight_each_of_a_class_of_its_own():
    found = take_pictures(Linear(12), TrainingData(Many(), SETTINGS), CPU)
    assert COUNT == 8
    assert found.labels == list(range(8))
    np.testing.assert_allclose(found.images, Many().pixels[0:24:3].numpy() / 255, atol=1e-6)


@pytest.mark.parametrize("training", [True, False])
def test_the_model_is_in_evaluation_mode_meanwhile_and_keeps_no_trace(training):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(
            nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(), nn.Flatten(), nn.Linear(400, 3)
        ).train(training)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    modes = []
    model[1].register_forward_hook(lambda module, *_: modes.append(module.training))
    random = torch.random.get_rng_state()
    first, second = (take_pictures(model, data(5, 20), CPU) for _ in range(2))
    assert modes == [False, False]
    assert {module.training for module in model.modules()} == {training}
    assert_same(model.state_dict(), before)
    assert all(parameter.grad is None for parameter in model.parameters())
    assert torch.equal(torch.random.get_rng_state(), random)
    assert np.array_equal(first.saliency, second.saliency)


def test_images_without_maps_have_flat_ones():
    found = take_pictures(Linear(), data(5, 20, lacking=lambda number: True), CPU)
    assert np.isfinite(found.heatmaps).all()
    assert found.heatmaps.max() == found.heatmaps.min()


@pytest.mark.parametrize(("every", "epochs"), [(0, []), (1, [1, 2, 3, 4]), (2, [2, 4]), (3, [3]), (9, [])])
def test_a_training_takes_pictures_every_so_many_epochs_and_stays_as_it_is(tmp_path, every, epochs):
    plain, watcher = fit(tmp_path / "plain"), Watcher()
    plain.run([])
    pictured = fit(tmp_path / "pictured", pictures=every, pictured=data(5, 20))
    assert pictured.run([watcher]) == plain.history
    assert [epoch for epoch, _ in watcher.pictures] == epochs
    assert_same(state(pictured), state(plain))


def test_pictures_are_of_what_is_kept(tmp_path):
    """The average where there is one; and nobody takes any where nobody looks."""
    watcher, pictured = Watcher(), data(5, 20)
    trained = fit(tmp_path, ema=0.9, pictures=4, pictured=pictured)
    trained.run([watcher])
    ((_, found),) = watcher.pictures
    assert np.array_equal(found.saliency, take_pictures(trained.result, pictured, CPU).saliency)
    other = take_pictures(trained.classifier, pictured, CPU).saliency
    assert not np.allclose(found.saliency, other, rtol=1e-3, atol=0)


def test_without_images_or_observers_there_are_none(tmp_path, monkeypatch):
    monkeypatch.setattr("advalign.training.loop.take_pictures", lambda *_: pytest.fail("nobody looks"))
    watcher = Watcher()
    fit(tmp_path / "a", pictures=1).run([watcher])
    fit(tmp_path / "b", pictures=1, pictured=data(5, 20)).run([])
    assert watcher.pictures == []
