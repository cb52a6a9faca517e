"""Means over an epoch: by value, over the images that had a number, over processes, and after a saved state."""

import io
import math

import pytest
import torch

from advalign.training.meter import Meter
from advalign.training.world import World


class Several(World):
    """A world of which this process is the first; what the others have is given."""

    def __init__(self, *others):
        super().__init__()
        object.__setattr__(self, "others", others)

    def all(self, value):
        return [value, *self.others]


def result(loss, right=1, of=2, **parts):
    """A step's result whose first `right` of `of` images are right, and its labels."""
    labels = torch.zeros(of, dtype=torch.int64)
    logits = torch.stack([(torch.arange(of) < right).float(), (torch.arange(of) >= right).float()], 1)
    scalars = {name: torch.tensor(value) for name, value in {"loss": loss, **parts}.items()}
    return {**scalars, "logits": logits}, labels


def filled(*steps):
    meter = Meter()
    for step in steps:
        meter.add(*step)
    return meter


def test_means_by_value():
    meter = filled(result(1.0, 1, 4), result(2.0, 3, 4, part=5.0), result(6.0, 0, 2))
    assert meter.means(World()) == {"loss": 2.4, "part": 5.0, "train_accuracy": 0.4}


def test_means_do_not_depend_on_parts():
    """A batch in one part, and in two, whose losses are means of as many images; it may go on in the other way."""
    whole, parts = result(3.0, 2, 4), [result(2.0, 1, 2), result(4.0, 1, 2)]
    assert filled(whole, *parts).means(World()) == filled(whole, whole).means(World())
    assert filled(result(9.0), whole, *parts).means(World()) == filled(result(9.0), *parts, whole).means(World())


def test_an_empty_epoch_has_no_right_answers():
    assert Meter().means(World()) == {"train_accuracy": 0.0}


def test_sums_are_exact_where_float32_would_not_be():
    meter = filled(*(result(value) for value in [1e8, *[1.0] * 1000]))
    assert meter.means(World())["loss"] == (1e8 + 1000) / 1001
    assert math.isclose(filled(*[result(0.1)] * 10).means(World())["loss"], torch.tensor(0.1).item(), rel_tol=1e-15)


def test_bfloat16_numbers_are_added_in_full():
    meter = Meter()
    for _ in range(1000):
        meter.add({"loss": torch.tensor(1.0, dtype=torch.bfloat16), "logits": torch.eye(2)}, torch.tensor([0, 0]))
    assert meter.means(World()) == {"loss": 1.0, "train_accuracy": 0.5}


def test_nothing_that_is_kept_holds_a_graph():
    weight = torch.ones(2, requires_grad=True)
    meter = Meter()
    meter.add({"loss": weight.sum(), "logits": weight * torch.eye(2)}, torch.tensor([0, 1]))
    assert not any(value.requires_grad for value in meter.sums.values())
    assert not meter.right.requires_grad


def test_a_saved_state_goes_on_to_the_same_bits():
    steps = [result(0.1 * step + 1 / 3, step % 3, 3, **({"part": step / 7} if step % 2 else {})) for step in range(9)]
    whole = filled(*steps).means(World())
    for cut in range(10):
        file = io.BytesIO()
        torch.save(filled(*steps[:cut]).state(World()), file)
        file.seek(0)
        resumed = Meter()
        resumed.load(torch.load(file, weights_only=True))
        for step in steps[cut:]:
            resumed.add(*step)
        assert resumed.means(World()) == whole


def test_a_state_is_plain_numbers_and_a_loaded_one_leaves_it_alone():
    state = filled(result(1.0), result(3.0, part=2.0)).state(World())
    assert state == {"sums": {"loss": 8.0, "part": 4.0}, "counts": {"loss": 4, "part": 2}, "right": 2, "seen": 4}
    meter = Meter()
    meter.load(state)
    meter.add(*result(5.0, part=1.0))
    assert (state["sums"]["loss"], state["counts"]["loss"], state["right"]) == (8.0, 4, 2)
    assert meter.means(World()) == {"loss": 3.0, "part": 1.5, "train_accuracy": 0.5}


def test_processes_are_added_up():
    """A part that only some processes had is the mean over those that had it."""
    meter = filled(result(1.0, 2, 2), result(3.0, 0, 2, part=8.0))
    other = ({"loss": (20.0, 2), "rare": (6.0, 3)}, 1, 4)
    world = Several(other, ({"part": (2.0, 1), "loss": (6.0, 1)}, 3, 4))
    assert meter.means(world) == {"loss": pytest.approx(34 / 7), "part": 6.0, "rare": 2.0, "train_accuracy": 0.5}
    state = meter.state(world)
    alone = Meter()
    alone.load(state)  # the first process goes on from all of it, the others from nothing
    assert alone.means(World()) == meter.means(world)
