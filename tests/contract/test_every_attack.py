"""What holds for every attack in the catalog: a new file in advalign/attacks is tested here by itself."""

import inspect
import sys
from functools import cache

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from advalign.attacks.base import Attack, Bounded
from advalign.evaluation.protocols import protocol
from tests import extending

torch.set_num_threads(1)

NAMES = extending.names("attack")
COUNT = 12
every_attack = pytest.mark.parametrize("name", NAMES)


def short(name):
    """The attack under its own protocol, or under a small budget where that is long."""
    with extending.installed():
        attack = protocol({"fmn": "fmn-60"}.get(name, name)).attack
    if isinstance(attack, Bounded):  # within a radius that most images can be flipped in
        few = {"steps": 20, "queries": 200} if name == "autoattack" else {}
        return type(attack)(attack.settings.model_copy(update={"eps": 0.25, **few}))
    return attack


@cache
def net():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, stride=2, padding=1), nn.SiLU(),
            nn.BatchNorm2d(8), nn.Flatten(), nn.Linear(8 * 36, 5),
        ).eval()  # fmt: skip


@cache
def images():
    return torch.rand(COUNT, 3, 12, 12, generator=torch.Generator().manual_seed(1)) * 0.9 + 0.05


@cache
def labels():
    """The net's own predictions, two of them made wrong."""
    found = net()(images()).argmax(1)
    found[[3, 7]] = (found[[3, 7]] + 1) % 5
    return found


@cache
def first_run(name):
    return short(name).run(net(), images(), labels())


def ok(result):
    return torch.tensor([status == "ok" for status in result.status])


@every_attack
def test_what_it_returns_flips_lies_in_the_box_and_is_as_long_as_it_says(name):
    result = first_run(name)
    found = ok(result)
    assert found.sum() >= 8, f"only {found.sum()} of 10 images that can be flipped were"
    assert [index for index, status in enumerate(result.status) if status == "misclassified_clean"] == [3, 7]
    with torch.no_grad():
        assert (net()(result.adversarials[found]).argmax(1) != labels()[found]).all()
    assert result.adversarials.dtype == torch.float32
    assert result.adversarials.shape == images().shape
    assert result.adversarials.min() >= 0
    assert result.adversarials.max() <= 1
    norms = (
        (result.adversarials.double() - images().double())
        .flatten(1)
        .norm(dim=1, p={"l2": 2.0, "linf": torch.inf}[short(name).norm])
    )
    torch.testing.assert_close(result.norms[found], norms[found], rtol=1e-5, atol=1e-7)
    assert result.norms.dtype == torch.float64
    assert (result.norms[found] > 0).all()
    assert result.norms[~found].isnan().all()
    assert torch.equal(result.adversarials[~found], images()[~found])
    assert (result.largest_tried[found] >= result.norms[found] * (1 - 1e-5)).all()
    assert torch.equal(result.clean_predictions, net()(images()).argmax(1))


@every_attack
def test_two_runs_are_the_same_to_the_bit_and_draw_no_global_random_numbers(name):
    state = torch.random.get_rng_state()
    again = short(name).run(net(), images(), labels())
    assert torch.equal(torch.random.get_rng_state(), state)
    result = first_run(name)
    assert again.status == result.status
    assert torch.equal(again.adversarials, result.adversarials)
    assert torch.equal(again.queries, result.queries)


@every_attack
def test_statuses_do_not_depend_on_who_else_is_in_the_batch(name):
    result = first_run(name)
    for members in ([0], list(range(5, 9)), list(range(COUNT))[::-1]):
        part = short(name).run(net(), images()[members], labels()[members])
        assert part.status == [result.status[member] for member in members]
        torch.testing.assert_close(part.norms, result.norms[members], rtol=0.05, atol=0, equal_nan=True)


@every_attack
def test_the_memory_format_of_the_images_does_not_matter(name):
    result = first_run(name)
    other = short(name).run(net(), images().contiguous(memory_format=torch.channels_last), labels())
    assert other.status == result.status
    torch.testing.assert_close(other.norms, result.norms, rtol=0.05, atol=0, equal_nan=True)


@every_attack
def test_queries_are_what_the_model_sees(name):
    passes = []

    def counting(points):
        passes.append(len(points))
        return net()(points)

    result = short(name).run(counting, images(), labels())
    assert int(result.queries.sum()) == sum(passes)
    assert result.queries[[3, 7]].tolist() == [1, 1]


@every_attack
def test_a_model_without_gradients_makes_it_fail_openly(name):
    result = short(name).run(
        lambda points: (points * 0).flatten(1).sum(1, keepdim=True) + torch.tensor([1.0, 0.0, 0.0, 0.0]),
        images()[:2],
        torch.zeros(2, dtype=torch.int64),
    )
    assert result.status == ["attack_failed"] * 2
    assert result.norms.isnan().all()
    assert result.largest_tried.isfinite().all()


@every_attack
def test_it_runs_where_gradients_are_switched_off_and_leaves_none_behind(name):
    with torch.no_grad():
        result = short(name).run(net(), images()[:2], labels()[:2])
    assert result.status == first_run(name).status[:2]
    assert all(parameter.grad is None for parameter in net().parameters())
    assert not result.adversarials.requires_grad


@every_attack
def test_it_is_described_and_its_settings_are_frozen(name):
    attack_class = extending.load("attack", name)
    assert issubclass(attack_class, Attack)
    for described in (sys.modules[attack_class.__module__], attack_class, attack_class.Settings, attack_class.search):
        assert inspect.getdoc(described)
        assert described.__doc__, f"{described} inherits its description"
    settings = attack_class.Settings()
    for field in attack_class.Settings.model_fields:
        with pytest.raises(ValidationError, match="frozen"):
            setattr(settings, field, getattr(settings, field))
    with pytest.raises(ValidationError, match="extra"):
        attack_class.Settings(no_such_setting=1)
    if attack_class.budget is not None:
        assert attack_class.budget in attack_class.Settings.model_fields


def test_names_are_file_names_and_protocols_are_apart():
    assert {"fmn-fast", "fmn", "feng2025-released"} <= set(NAMES)
    with extending.installed():
        assert len({protocol(name).sha256 for name in NAMES}) == len(NAMES)
