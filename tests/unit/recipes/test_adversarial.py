"""The recipe `adversarial`: which batches are attacked, how, and that no interruption and no split changes it."""

import pytest
import torch

from advalign.recipes._pgd import BallSettings, worst_case
from advalign.recipes.adversarial import AdversarialRecipe, is_adversarial
from advalign.recipes.base import Position
from advalign.settings import Training, load_settings
from advalign.training.plan import resolve
from tests.conftest import REPOSITORY
from tests.tiny_recipes import batch, net, taken
from tests.tiny_training import PER_EPOCH, Watcher, assert_same, fit, state

torch.set_num_threads(1)


def recipe(**values):
    return AdversarialRecipe(AdversarialRecipe.Settings(**values))


def step(wanted, seed=0):
    """The first step whose coin says so."""
    return next(one for one in range(100) if is_adversarial("coin", Position(one, 100, seed)) is wanted)


def images_seen(one, position, sample=None):
    """The images that the loss is computed on."""
    return one._inputs(net().train(), sample or batch(), position)


@pytest.mark.parametrize("seed", [0, 1, 2**31 - 1])
def test_the_coin_is_fair_and_has_no_memory(seed):
    thrown = torch.tensor([is_adversarial("coin", Position(one, 4000, seed)) for one in range(4000)]).double()
    assert abs(float(thrown.mean()) - 0.5) < 4 * 0.5 / 4000**0.5
    pairs = float((thrown[1:] == thrown[:-1]).double().mean())
    assert abs(pairs - 0.5) < 4 * 0.5 / 4000**0.5


def test_the_coin_is_the_seeds_and_the_steps_alone():
    def thrown(seed):
        return [is_adversarial("coin", Position(one, 200, seed)) for one in range(200)]

    torch.manual_seed(1)
    before = thrown(3)
    torch.manual_seed(2)
    assert thrown(3) == before
    assert thrown(4) != before
    state_before = torch.random.get_rng_state()
    thrown(3)
    assert torch.equal(torch.random.get_rng_state(), state_before)


def test_alternating_attacks_every_second_batch():
    assert [is_adversarial("alternating", Position(one, 6, 5)) for one in range(6)] == [False, True] * 3


def test_a_clean_batch_is_as_it_was_and_an_attacked_one_lies_in_the_ball():
    clean, attacked = (Position(step(wanted), 100) for wanted in (False, True))
    assert images_seen(recipe(), clean) is not None
    assert torch.equal(images_seen(recipe(), clean), batch().images)
    moved = (images_seen(recipe(), attacked) - batch().images).abs().flatten(1).amax(1)
    assert (moved <= 8 / 255 + 1e-6).all()
    assert (moved > 0.99 * 8 / 255).all()


def test_the_search_is_ten_steps_of_a_fifth_of_eps_from_a_random_start():
    """By hand: the same start, and steps of 2 eps / 10 along the signs, each brought back into ball and box."""
    model, sample, eps = net().eval(), batch(), 8 / 255
    torch.manual_seed(7)
    found = images_seen(recipe(), Position(step(True), 100))
    torch.manual_seed(7)
    points = (sample.images + 2 * (torch.rand_like(sample.images) - 0.5) * eps).clamp(0, 1)
    for _ in range(10):
        points = points.detach().requires_grad_(True)
        loss = torch.nn.functional.cross_entropy(model(points), sample.labels)
        (gradient,) = torch.autograd.grad(loss, points)
        moved = (points + gradient.sign() * 0.2 * eps - sample.images).clamp(-eps, eps)
        points = (sample.images + moved).clamp(0, 1)
    torch.testing.assert_close(found, points.detach(), rtol=0, atol=1e-6)


def test_steps_are_shorter_than_robusts_while_the_search_is_the_same():
    """With a step size, both recipes search alike; without one, `robust` steps 2.5 eps / steps."""
    position, sample = Position(step(True), 100), batch()
    same = {"constraint": "linf", "eps": 0.02, "steps": 3, "random_start": False}
    own = images_seen(recipe(**same), position)
    longer = worst_case(net(), sample.images, sample.target, BallSettings(**same), position)
    alike = worst_case(net(), sample.images, sample.target, BallSettings(**same, step_size=2 * 0.02 / 3), position)
    assert torch.equal(own, alike)
    assert not torch.equal(own, longer)


def test_all_parts_of_a_batch_have_one_coin():
    for wanted in (False, True):
        position = Position(step(wanted), 100)
        for part in (torch.arange(3), torch.arange(3, 6)):
            sample = taken(batch(), part)
            assert torch.equal(images_seen(recipe(), position, sample), sample.images) is not wanted


@pytest.mark.parametrize("mixture", ["coin", "alternating"])
def test_a_training_that_is_resumed_throws_the_same_coins(mixture, tmp_path):
    """Interrupted after an epoch, between two steps of the next, and killed with the last epoch's state."""
    coins, values = [], {"eps": 0.1, "steps": 2, "mixture": mixture}

    class Noted(AdversarialRecipe):
        def __call__(self, classifier, sample, position):
            coins.append((position.step, is_adversarial(mixture, position)))
            return super().__call__(classifier, sample, position)

    def noted():
        return Noted(AdversarialRecipe.Settings(**values))

    calm = fit(tmp_path / "calm", noted(), seed=5)
    calm.run([])
    expected, coins = coins, []
    for stop in (PER_EPOCH + 1, 2 * PER_EPOCH + 2):
        with pytest.raises(KeyboardInterrupt):
            fit(tmp_path / "stopped", noted(), seed=5).run([Watcher(stop_step=stop)])
    resumed = fit(tmp_path / "stopped", noted(), seed=5)
    resumed.run([])
    assert dict(coins) == dict(expected)
    assert len(coins) > len(expected)  # steps after the last saved state were made twice
    assert len({wanted for _, wanted in expected}) == 2
    assert_same(state(resumed), state(calm))


def test_eps_as_a_fraction_is_a_255th():
    settings = load_settings(REPOSITORY / "experiments" / "robustsight")
    found, train = resolve(settings, Training(model="test_resnet", recipe="adversarial"))
    assert found.settings.eps == 8 / 255
    assert found.published_name("test_resnet") == "test_resnet_linf_eps8_255.adversarial"
    assert (train.images, train.size, train.flip) == ("cifar", 32, False)
