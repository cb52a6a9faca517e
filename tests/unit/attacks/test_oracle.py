"""The oracle: margins by hand, passes in parts, memory that runs out, and who is asked when."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from advalign.attacks._oracle import Oracle, full_float32, margins, softened

torch.set_num_threads(1)

QUICK = settings(max_examples=80, deadline=None)
WEIGHTS = torch.randn(5, 12, generator=torch.Generator().manual_seed(0))
GROUPS = torch.tensor([0, 1, 0, 2, 1])


def images(count, seed=1):
    return torch.rand(count, 3, 2, 2, generator=torch.Generator().manual_seed(seed))


class Linear:
    """Five classes; writes down the size of every pass, and has no memory for more than `room` images."""

    def __init__(self, room=10**6, dtype=torch.float32):
        self.room, self.dtype, self.passes, self.refused = room, dtype, [], []

    def __call__(self, points):
        if len(points) > self.room:
            self.refused.append(len(points))
            raise torch.OutOfMemoryError("no memory")
        self.passes.append(len(points))
        return self.value(points)

    def value(self, points):
        return points.flatten(1).to(self.dtype) @ WEIGHTS.to(self.dtype).T


def test_margins_by_hand():
    logits = torch.tensor([[3.0, 1.0, 7.0, 4.0, 2.0]] * 5)
    own = GROUPS[None] == torch.tensor([0, 0, 2, 1, 1])[:, None]
    assert margins(logits, own).tolist() == [7 - 4, 7 - 4, 4 - 7, 2 - 7, 2 - 7]


def test_margins_of_classes_that_are_their_own_decision_by_hand():
    logits = torch.tensor([[3.0, 1.0, 7.0]] * 3)
    own = torch.eye(3, dtype=torch.bool)
    assert margins(logits, own).tolist() == [3 - 7, 1 - 7, 7 - 3]


LOGITS = st.lists(st.integers(-9, 9), min_size=5, max_size=5)


@QUICK
@given(LOGITS, st.integers(0, 2), st.lists(st.integers(0, 2), min_size=5, max_size=5), st.floats(0.01, 10))
def test_the_smooth_margin_lies_within_temperature_times_log_classes_of_the_margin(logits, label, groups, temperature):
    groups = torch.tensor(groups)
    own = (groups == label)[None]
    count, others = int(own.sum()), int((~own).sum())
    if not count or not others:
        return
    row = torch.tensor([logits]).double()
    hard = margins(row, own).item()
    smooth = softened(row, own, ~own, torch.tensor([temperature])).item()
    assert hard - temperature * math.log(others) - 1e-6 <= smooth <= hard + temperature * math.log(count) + 1e-6
    assert softened(row, own, ~own, torch.zeros(1)).item() == hard


def test_smooth_margins_by_hand():
    logits = torch.tensor([[1.0, 2.0, 0.5, -1.0]]).double()
    own = torch.tensor([[True, False, True, False]])
    both = 0.5 * math.log(math.exp(1 / 0.5) + math.exp(0.5 / 0.5))
    rivals = 0.5 * math.log(math.exp(2 / 0.5) + math.exp(-1 / 0.5))
    half = torch.tensor([0.5])
    assert softened(logits, own, ~own, half).item() == pytest.approx(both - rivals, abs=1e-12)
    last = torch.tensor([[False, False, False, True]])
    assert softened(logits, own, last, half).item() == pytest.approx(both + 1, abs=1e-12)
    assert softened(logits, own, last, torch.zeros(1)).item() == 1 + 1


def test_a_mix_of_smooth_and_hard_margins_has_finite_gradients():
    """The branch that `where` drops must not spoil the gradient of the one that it keeps."""
    logits = torch.tensor([[300.0, -500.0, 2.0]] * 2, requires_grad=True)
    own = torch.tensor([[True, False, False]] * 2)
    softened(logits, own, ~own, torch.tensor([0.0, 1e-3])).sum().backward()
    assert logits.grad.tolist() == [[1, 0, -1], [1, 0, -1]]


def test_decisions_are_the_groups_of_the_largest_logits():
    model, labels = Linear(), torch.zeros(20, dtype=torch.int64)
    grouped = Oracle(model, images(20), labels, groups=GROUPS)
    largest = model.value(images(20)).argmax(1)
    assert len(set(largest.tolist())) >= 3
    assert torch.equal(grouped.decide(grouped.clean_logits), GROUPS[largest])
    plain = Oracle(model, images(20), labels)
    assert torch.equal(plain.decide(plain.clean_logits), largest)


def rivals_of(labels, index, targets):
    """(M, K) bool: one target class, or all classes of other decisions where it is -1."""
    free = GROUPS[None] != labels[index][:, None]
    one = torch.nn.functional.one_hot(targets.clamp_min(0), 5).bool()
    return torch.where((targets < 0)[:, None], free, one)


def test_gradients_point_along_the_difference_of_the_right_and_the_target_class():
    labels, index = torch.tensor([0, 0, 1, 2]), torch.tensor([3, 1, 0, 2, 1])
    targets = torch.tensor([-1, 4, 1, -1, 3])
    oracle = Oracle(Linear(), images(4), labels, groups=GROUPS)
    points = images(5, seed=2)
    found = oracle.step(points, index, torch.zeros(5), rivals_of(labels, index, targets))
    for row in range(5):
        logits = Linear().value(points[row : row + 1])[0]
        own = labels[index[row]] == GROUPS
        right = logits.masked_fill(~own, -torch.inf).argmax()
        rival = logits.masked_fill(own, -torch.inf).argmax()
        target = rival if targets[row] < 0 else targets[row]
        assert found.rival[row] == target
        assert found.smooth[row].item() == pytest.approx((logits[right] - logits[target]).item(), abs=1e-5)
        assert found.margin[row].item() == pytest.approx((logits[right] - logits[rival]).item(), abs=1e-5)
        torch.testing.assert_close(found.gradient[row].flatten(), WEIGHTS[right] - WEIGHTS[target])
    margin, towards_any = oracle.margin_and_gradient(points, index)
    torch.testing.assert_close(margin, found.margin)
    torch.testing.assert_close(towards_any[targets < 0], found.gradient[targets < 0])
    torch.testing.assert_close(oracle.margin(points, index), found.margin)
    assert torch.equal(oracle.is_adversarial(points, index), found.margin < 0)
    assert oracle.queries.tolist() == [4, 8, 4, 4]


def test_a_smooth_step_weighs_the_classes_of_both_sides_by_their_softmax():
    labels, index = torch.tensor([0, 1, 2]), torch.arange(3)
    oracle = Oracle(Linear(), images(3), labels, groups=GROUPS)
    temperatures = torch.tensor([0.1, 1.0, 5.0])
    found = oracle.step(images(3, seed=2), index, temperatures)
    for row in range(3):
        logits = Linear().value(images(3, seed=2)[row : row + 1])[0]
        own = labels[row] == GROUPS
        sides = [torch.softmax(logits.masked_fill(~side, -torch.inf) / temperatures[row], 0) for side in (own, ~own)]
        torch.testing.assert_close(found.gradient[row].flatten(), (sides[0] - sides[1]) @ WEIGHTS)


def ask_everything(oracle, count):
    """Answers of all kinds about more points than images."""
    index = torch.arange(3 * count) % count
    points, targets = images(3 * count, seed=2), torch.arange(3 * count) % 6 - 1
    targets = torch.where(GROUPS[targets] == oracle.labels[index], -1, targets)
    rivals, temperatures = rivals_of(oracle.labels, index, targets), torch.arange(3 * count) % 3 / 2
    return (
        oracle.clean_logits, oracle.class_logits(points, index), oracle.margin(points[:5], index[:5]),
        *oracle.margin_and_gradient(points[1:], index[1:]), *oracle.step(points, index, temperatures, rivals),
    )  # fmt: skip


@pytest.mark.parametrize("batch_size", [1, 2, 3, 7, 20, 21, 1000])
def test_a_pass_in_parts_gives_the_same_and_counts_the_same(batch_size):
    labels = torch.arange(7) % 3
    whole = Oracle(Linear(), images(7), labels, groups=GROUPS)
    model = Linear()
    parts = Oracle(model, images(7), labels, groups=GROUPS, batch_size=batch_size)
    for expected, found in zip(ask_everything(whole, 7), ask_everything(parts, 7), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    assert torch.equal(parts.queries, whole.queries)
    assert torch.equal(parts.largest_tried, whole.largest_tried)
    assert max(model.passes) <= batch_size
    assert sum(model.passes) == int(parts.queries.sum())


@pytest.mark.parametrize("room", [1, 2, 3, 5])
def test_where_memory_runs_out_batches_are_halved_and_answers_stay_right_and_in_order(room):
    labels = torch.arange(7) % 3
    whole = Oracle(Linear(), images(7), labels, groups=GROUPS)
    model = Linear(room)
    short = Oracle(model, images(7), labels, groups=GROUPS, batch_size=16)
    for expected, found in zip(ask_everything(whole, 7), ask_everything(short, 7), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    assert 1 <= short.batch_size <= room
    assert torch.equal(short.queries, whole.queries), "a refused pass is no answer and no query"
    assert max(model.passes) <= room
    assert sum(model.passes) == int(short.queries.sum())
    assert len(model.refused) <= 4, "the smaller size must be remembered"


def test_halving_by_value():
    model = Linear(3)
    oracle = Oracle(model, images(16), torch.zeros(16, dtype=torch.int64))
    torch.testing.assert_close(oracle.clean_logits, Linear().value(images(16)))
    assert oracle.batch_size == 2
    assert (model.refused, model.passes) == ([16, 8, 4], [2] * 8)


def test_memory_that_runs_out_half_way_keeps_what_was_answered():
    class Shrinking(Linear):
        def __call__(self, points):
            self.room = 4 if len(self.passes) < 2 else 1
            return super().__call__(points)

    model = Shrinking()
    oracle = Oracle(model, images(12), torch.zeros(12, dtype=torch.int64), batch_size=4)
    torch.testing.assert_close(oracle.clean_logits, Linear().value(images(12)))
    assert model.passes == [4, 4, 1, 1, 1, 1]
    assert model.refused == [4, 2]


@pytest.mark.parametrize("count", [1, 4])
def test_without_memory_for_a_single_image_it_raises(count):
    oracle = Oracle(Linear(0), images(count), torch.zeros(count, dtype=torch.int64))
    with pytest.raises(torch.OutOfMemoryError):
        oracle.margin_and_gradient(images(count), torch.arange(count))


def test_other_errors_are_not_swallowed():
    def broken(points):
        raise RuntimeError("shape")

    with pytest.raises(RuntimeError, match="shape"):
        Oracle(broken, images(4), torch.zeros(4, dtype=torch.int64)).margin(images(4), torch.arange(4))


def test_no_points_give_empty_answers():
    oracle = Oracle(Linear(), images(3), torch.zeros(3, dtype=torch.int64), batch_size=2)
    nobody = torch.zeros(0, dtype=torch.int64)
    margin, gradient = oracle.margin_and_gradient(images(3)[:0], nobody)
    assert margin.shape == (0,)
    assert gradient.shape == (0, 3, 2, 2)
    assert oracle.is_adversarial(images(3)[:0], nobody).shape == (0,)
    assert oracle.queries.tolist() == [0, 0, 0]


def test_clean_logits_are_asked_once():
    model = Linear()
    oracle = Oracle(model, images(3), torch.zeros(3, dtype=torch.int64))
    assert oracle.queries.tolist() == [0, 0, 0]
    assert torch.equal(oracle.clean_logits, oracle.clean_logits)
    assert model.passes == [3]
    assert oracle.queries.tolist() == [1, 1, 1]
    assert oracle.largest_tried.tolist() == [0, 0, 0]
    assert not oracle.clean_logits.requires_grad


@pytest.fixture
def rounding_allowed():
    """The backend flags switched on, as a caller may have them, and put back afterwards."""
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32
    matmul.allow_tf32, cudnn.allow_tf32 = True, True
    yield lambda: (matmul.allow_tf32, cudnn.allow_tf32)
    matmul.allow_tf32, cudnn.allow_tf32 = before


def test_the_judge_is_asked_in_full_float32_and_the_search_model_as_the_caller_likes(rounding_allowed):
    seen = []

    def spying(points):
        seen.append(rounding_allowed())
        return Linear().value(points)

    index = torch.arange(2)
    oracle = Oracle(spying, images(2), torch.zeros(2, dtype=torch.int64))
    oracle.margin(images(2), index)
    oracle.margin_and_gradient(images(2), index)
    oracle.step(images(2), index, torch.zeros(2))
    assert seen == [(False, False)] * 3
    oracle = Oracle(Linear(), images(2), torch.zeros(2, dtype=torch.int64), search=spying)
    oracle.step(images(2), index, torch.zeros(2))
    assert seen[3:] == [(True, True)]
    assert rounding_allowed() == (True, True)


def test_backend_flags_are_restored_after_an_exception(rounding_allowed):
    with pytest.raises(ZeroDivisionError), full_float32():
        assert rounding_allowed() == (False, False)
        raise ZeroDivisionError
    assert rounding_allowed() == (True, True)
    torch.backends.cudnn.allow_tf32 = False
    with full_float32():
        pass
    assert rounding_allowed() == (True, False)


def test_only_a_step_asks_the_search_model():
    judge, search = Linear(), Linear()
    oracle = Oracle(judge, images(3), torch.zeros(3, dtype=torch.int64), search=lambda points: -search(points))
    index = torch.arange(3)
    assert not oracle.judge_steps
    expected, _ = oracle.margin_and_gradient(images(3), index)
    oracle.margin(images(3), index)
    oracle.is_adversarial(images(3), index)
    assert (judge.passes, search.passes) == ([3, 3, 3], [])
    asked, decision, gradient, _ = oracle.step(images(3), index, torch.zeros(3))
    assert (judge.passes, search.passes) == ([3, 3, 3], [3])
    assert oracle.queries.tolist() == [4, 4, 4], "whoever answers, it is a query"
    mirrored = Oracle(lambda points: -Linear()(points), images(3), torch.zeros(3, dtype=torch.int64))
    for found, wanted in zip((asked, gradient), mirrored.margin_and_gradient(images(3), index), strict=True):
        torch.testing.assert_close(found, wanted)
    assert not torch.allclose(decision, expected)
    assert Oracle(judge, images(3), torch.zeros(3, dtype=torch.int64)).judge_steps


@pytest.mark.parametrize("narrow", [torch.bfloat16, torch.float16])
def test_narrow_answers_of_a_search_model_come_back_as_float32(narrow):
    labels = torch.zeros(3, dtype=torch.int64)
    oracle = Oracle(Linear(), images(3), labels, search=lambda points: Linear().value(points).to(narrow))
    asked, decision, gradient, _ = oracle.step(images(3), torch.arange(3), torch.zeros(3))
    assert {asked.dtype, decision.dtype, gradient.dtype} == {torch.float32}
    # the difference is taken in float32: of two logits that are rounded, not rounded once more
    logits = Linear().value(images(3)).to(narrow).float()
    assert torch.equal(decision, logits[:, 0] - logits[:, 1:].amax(1))


def test_answers_of_a_float64_model_come_in_the_points_type():
    oracle = Oracle(Linear(dtype=torch.float64), images(3), torch.zeros(3, dtype=torch.int64), batch_size=2)
    assert oracle.clean_logits.dtype == torch.float64
    logits = images(3).double().flatten(1) @ WEIGHTS.double().T
    expected = logits[:, 0] - logits[:, 1:].amax(1)
    margin, gradient = oracle.margin_and_gradient(images(3), torch.arange(3))
    assert margin.dtype == gradient.dtype == torch.float32
    assert torch.equal(margin, expected.float())  # the difference itself is taken in float64
    torch.testing.assert_close(oracle.margin(images(3), torch.arange(3)), expected, rtol=1e-14, atol=1e-14)
