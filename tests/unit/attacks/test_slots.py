"""Continuous batching: who is in flight when, and that nobody is lost, doubled or mixed up with a neighbour."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from advalign.attacks._slots import Item, Slots

torch.set_num_threads(1)

QUICK = settings(max_examples=80, deadline=None)
LIKE = torch.zeros(1, 1, 2, 2)
OVERSHOOT = (0.25, 0.5)  # by turn; exact in float32
CLASSES = 10


def start_of(turn, image, rank):
    """A perturbation that says whose it is."""
    return torch.tensor([[[turn, image], [rank, 7.0]]])


def bits(number):
    """Ten classes, as the binary digits of a number."""
    return torch.tensor([bool(number >> place & 1) for place in range(CLASSES)])


def item(turn, image, rank, number=0):
    return Item(turn, image, rank, bits(number), start_of(turn, image, rank))


def in_flight(slots):
    """(turn, image, rank) of every slot; the rank from the perturbation, the others from the columns."""
    flight = slots.flight
    ranks = flight.delta[:, 0, 1, 0].int().tolist()
    return list(zip(flight.turn.tolist(), flight.image.tolist(), ranks, strict=True))


def test_items_are_taken_by_turn_then_image_then_rank():
    slots = Slots(8, LIKE, CLASSES, OVERSHOOT)
    keys = [(1, 0, 1), (1, 2, 0), (0, 2, 1), (1, 0, 0), (0, 0, 3), (0, 2, 0), (1, 1, 5), (0, 1, 0)]
    for key in keys:
        slots.push(item(*key))
    assert slots.refill() == 8
    assert in_flight(slots) == sorted(keys)


def test_what_came_later_but_is_sooner_takes_the_next_free_slot():
    slots = Slots(2, LIKE, CLASSES, OVERSHOOT)
    for image in range(4):
        slots.push(item(1, image, 0))
    slots.refill()
    slots.push(item(0, 3, 0))
    slots.flight = slots.flight.where(torch.tensor([False, True]))
    assert slots.refill() == 2
    assert in_flight(slots) == [(1, 1, 0), (0, 3, 0)]
    slots.flight = slots.flight.where(torch.tensor([False, False]))
    assert slots.refill() == 2
    assert in_flight(slots) == [(1, 2, 0), (1, 3, 0)]


def test_an_empty_queue_leaves_nothing_in_flight():
    slots = Slots(3, LIKE, CLASSES, OVERSHOOT)
    assert slots.refill() == 0
    assert slots.flight.delta.shape == (0, 1, 2, 2)
    slots.push(item(0, 0, 0))
    assert slots.refill() == 1
    slots.flight = slots.flight.where(torch.tensor([False]))
    assert slots.refill() == 0


def test_those_that_stay_keep_their_state_when_others_board():
    slots = Slots(3, LIKE, CLASSES, OVERSHOOT)
    for image in range(5):
        slots.push(item(image % 2, image, 0, number=10 + image))
    slots.refill()
    assert slots.flight.image.tolist() == [0, 2, 4]
    slots.flight.step += 4
    slots.flight.overshoot *= 0.5
    slots.flight.delta = slots.flight.delta * 2
    slots.flight = slots.flight.where(torch.tensor([True, False, True]))
    slots.refill()
    flight = slots.flight
    assert flight.image.tolist() == [0, 4, 1]
    assert flight.turn.tolist() == [0, 0, 1]
    assert torch.equal(flight.rivals, torch.stack([bits(10), bits(14), bits(11)]))
    assert flight.step.tolist() == [4, 4, 0]
    assert flight.overshoot.tolist() == [0.125, 0.125, 0.5]
    assert torch.equal(flight.delta, torch.stack([2 * start_of(0, 0, 0), 2 * start_of(0, 4, 0), start_of(1, 1, 0)]))


def test_perturbations_have_the_type_of_the_images():
    slots = Slots(2, LIKE.double(), CLASSES, OVERSHOOT)
    slots.push(Item(0, 0, 0, bits(0), torch.ones(1, 2, 2, dtype=torch.float64)))
    slots.refill()
    assert slots.flight.delta.dtype == torch.float64
    assert slots.flight.overshoot.dtype == torch.float64


KEYS = st.sets(st.tuples(st.integers(0, 1), st.integers(0, 9), st.integers(0, 3)), max_size=40)


@QUICK
@given(KEYS, KEYS, st.integers(1, 7), st.integers(0, 2**31))
def test_nothing_is_lost_doubled_or_mixed_up(first, later, size, seed):
    """Items leave at random times; some are pushed on the way; each carries its own classes and perturbation."""
    generator = torch.Generator().manual_seed(seed)
    later = later - first
    slots = Slots(size, LIKE, CLASSES, OVERSHOOT)
    for key in sorted(first, key=hash):
        slots.push(item(*key, number=hash(key) % 1000))
    waiting, left, flying = list(later), [], []
    queued = set(first)
    while count := slots.refill():
        keys = in_flight(slots)
        boarded = [key for key in keys if key not in flying]
        assert count == len(keys) <= size
        assert set(boarded) <= queued
        queued -= set(boarded)
        assert count == size or not queued, "a slot was left empty while somebody waited"
        assert boarded == sorted(boarded)
        assert not queued or not boarded or max(boarded) < min(queued)
        assert torch.equal(slots.flight.rivals, torch.stack([bits(hash(key) % 1000) for key in keys]))
        assert torch.equal(slots.flight.delta, torch.stack([start_of(*key) for key in keys]))
        assert slots.flight.overshoot.tolist() == [OVERSHOOT[key[0]] for key in keys]
        stays = torch.rand(count, generator=generator) < 0.5
        left += [key for key, stay in zip(keys, stays.tolist(), strict=True) if not stay]
        slots.flight = slots.flight.where(stays)
        flying = in_flight(slots)
        if waiting:
            key = waiting.pop()
            slots.push(item(*key, number=hash(key) % 1000))
            queued.add(key)
    assert sorted(left) == sorted({*first, *later} - set(waiting))
