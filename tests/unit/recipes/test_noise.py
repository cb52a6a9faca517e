"""The recipe `noise`: what its images are, and that no interruption and no memory layout changes what is drawn."""

import pytest
import torch

from advalign.recipes.noise import NoiseRecipe
from tests.tiny_recipes import POSITION, batch, net
from tests.tiny_training import PER_EPOCH, Watcher, assert_same, fit, state

torch.set_num_threads(1)


def recipe(**values):
    return NoiseRecipe(NoiseRecipe.Settings(**values))


def images_seen(sample, seed=3, **values):
    """The images that the loss is computed on."""
    torch.manual_seed(seed)
    return recipe(**values)._inputs(net().train(), sample, POSITION)


def noise(count=400, **values):
    return images_seen(batch(count), **values) - batch(count).images


def test_the_noise_is_gaussian_with_the_settings_sigma_and_is_not_clipped():
    for sigma in (0.25, 1.0):
        drawn = noise(sigma=sigma).double().flatten() / sigma
        count = drawn.numel()
        assert abs(float(drawn.mean())) < 5 / count**0.5
        assert float(drawn.std()) == pytest.approx(1, abs=5 / (2 * count) ** 0.5)
        assert float((drawn**4).mean()) == pytest.approx(3, abs=5 * (96 / count) ** 0.5)
    assert images_seen(batch(6), sigma=1.0).min() < -0.5
    assert torch.equal(noise(), noise())
    assert not torch.equal(noise(), noise(seed=4))


def test_pixels_channels_and_images_have_noise_of_their_own():
    drawn = noise(200)
    for moved in (drawn.roll(1, 0), drawn.roll(1, 1), drawn.roll(1, 3)):
        assert abs(float((drawn * moved).mean()) / 0.25**2) < 5 / drawn.numel() ** 0.5


def test_the_memory_layout_changes_nothing():
    plain, last = batch(6), batch(6)
    object.__setattr__(last, "images", last.images.contiguous(memory_format=torch.channels_last))
    assert torch.equal(images_seen(plain), images_seen(last))


def test_the_loss_is_the_cross_entropy_of_the_noisy_images():
    model, sample = net().train(), batch()
    torch.manual_seed(3)
    found = recipe()(model, sample, POSITION)
    expected = torch.nn.functional.cross_entropy(net().train()(images_seen(sample)), sample.labels)
    torch.testing.assert_close(found["loss"], expected)


def test_a_training_that_is_resumed_draws_the_same_noise(tmp_path):
    """Interrupted between two steps, and killed with the last epoch's state."""
    calm = fit(tmp_path / "calm", recipe(), seed=5)
    calm.run([])
    for stop in (PER_EPOCH + 1, 2 * PER_EPOCH + 2):
        with pytest.raises(KeyboardInterrupt):
            fit(tmp_path / "stopped", recipe(), seed=5).run([Watcher(stop_step=stop)])
    resumed = fit(tmp_path / "stopped", recipe(), seed=5)
    resumed.run([])
    assert_same(state(resumed), state(calm))
    other = fit(tmp_path / "other", recipe(sigma=0.5), seed=5)
    other.run([])
    assert resumed.history != other.history
