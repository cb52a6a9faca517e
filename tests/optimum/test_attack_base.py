"""What the base class promises for every attack: checks, verification, the stretch, the meter, protocols."""

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from advalign.attacks.base import STRETCH, MinimumNorm, Oracle, Status
from advalign.attacks.fmn import FastMinimumNorm
from advalign.errors import InputError
from advalign.evaluation.protocols import protocol
from advalign.strict_settings import Strict, parse

torch.set_num_threads(1)

START, THRESHOLD = 0.5, 0.7  # a step image: grey, and the value of pixel 0 at which the decision flips
RADIUS = THRESHOLD - START


def step_images(count):
    """Grey (N, 1, 2, 2) images; the last pixel says which image it is, so that a model can count per image."""
    images = torch.full((count, 1, 2, 2), START)
    images[:, 0, 1, 1] = torch.arange(count) / 100
    return images


class StepModel:
    """Flips where pixel 0 reaches the threshold; keeps its own book of who was asked, and how far away."""

    def __init__(self, count):
        self.passes = [0] * count
        self.farthest = [0.0] * count

    def __call__(self, images):
        for image in images.detach():
            number = round(float(image[0, 1, 1]) * 100)
            self.passes[number] += 1
            self.farthest[number] = max(self.farthest[number], float((image - step_images(number + 1)[-1]).norm()))
        side = images[:, 0, 0, 0] - THRESHOLD
        return torch.stack([-side, side], 1)


class Scripted(MinimumNorm):
    """Moves pixel 0 by given amounts, without asking anything."""

    def __init__(self, moves):
        super().__init__(Strict())
        self.moves = torch.tensor(moves)

    def search(self, oracle, index):
        points = oracle.inputs[index].clone()
        points[:, 0, 0, 0] += self.moves[index]
        return points


def push(length):
    """A step of this l2 length on all pixels but the last."""
    return length / 3**0.5 * torch.tensor([[1.0, 1.0], [1.0, 0.0]])


def zeros(count):
    return torch.zeros(count, dtype=torch.int64)


def test_a_misclassified_image_is_left_alone():
    images, model = step_images(3), StepModel(3)
    labels = torch.tensor([0, 1, 0])
    result = Scripted([0.3, 0.3, 0.3]).run(model, images, labels)
    assert result.status == ["ok", "misclassified_clean", "ok"]
    assert result.clean_predictions.tolist() == [0, 0, 0]
    assert torch.equal(result.adversarials[1], images[1])
    assert result.norms.isnan().tolist() == [False, True, False]
    assert result.queries.tolist() == [2, 1, 2] == model.passes
    assert result.largest_tried.tolist() == pytest.approx([0.3, 0.0, 0.3])


def test_nothing_is_searched_when_all_are_misclassified_or_there_are_none():
    class Never(MinimumNorm):
        def search(self, oracle, index):
            raise AssertionError("must not be called")

    result = Never().run(StepModel(2), step_images(2), zeros(2) + 1)
    assert result.status == [Status.MISCLASSIFIED_CLEAN] * 2
    empty = Never().run(lambda images: images.flatten(1)[:, :2], step_images(2)[:0], zeros(0))
    assert empty.status == []
    assert empty.norms.shape == (0,)


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda x: x.index_fill(0, torch.tensor([1]), torch.nan), "NaN"),
        (lambda x: x.index_fill(0, torch.tensor([1]), torch.inf), "infinity"),
        (lambda x: x - 0.6, r"\[0, 1\], got -0.6"),
        (lambda x: x * 255, r"\[0, 1\], got .* 128"),
        (lambda x: x + 1e-3 + 0.5, r"\[0, 1\]"),
        (lambda x: x.double(), "float32.*float64"),
        (lambda x: x.half(), "float32.*float16"),
        (lambda x: x[:1], "one label each"),
    ],
)
def test_images_that_are_no_images_are_refused_in_one_line(spoil, says):
    images = spoil(step_images(2))
    with pytest.raises(InputError, match=says) as caught:
        Scripted([0.3, 0.3]).run(StepModel(2), images, zeros(2))
    assert "\n" not in str(caught.value)


def test_a_search_that_finds_nothing_fails_openly():
    images, model = step_images(3), StepModel(3)
    result = Scripted([0.0, 0.1, -0.4]).run(model, images, zeros(3))
    assert result.status == [Status.ATTACK_FAILED] * 3
    assert result.norms.isnan().all()
    assert torch.equal(result.adversarials, images)
    assert result.queries.tolist() == model.passes
    assert result.largest_tried.tolist() == pytest.approx(model.farthest, abs=1e-6)
    assert result.largest_tried[1:].tolist() == pytest.approx([0.1 * (1 + STRETCH), 0.4 * (1 + STRETCH)], rel=1e-5)


def test_a_flip_undone_by_rounding_is_stretched_by_a_tenth_of_a_percent_at_most():
    short = [1.0005, 0.99995, 0.9995, 0.9991, 0.9985, 0.99]  # share of the needed step
    images, model = step_images(len(short)), StepModel(len(short))
    result = Scripted([RADIUS * share for share in short]).run(model, images, zeros(len(short)))
    assert result.status == ["ok"] * 4 + ["attack_failed"] * 2
    assert (model(result.adversarials[:4]).argmax(1) == 1).all()
    stretched = result.norms[:4] / (RADIUS * torch.tensor(short[:4]))
    assert stretched[0] == pytest.approx(1.0, abs=1e-6)
    assert (stretched[1:] > 1).all()
    assert (stretched <= 1 + STRETCH + 1e-6).all()
    assert torch.equal(result.adversarials[4:], images[4:])


def test_the_stretch_is_no_longer_than_needed_and_along_the_ray():
    class TwoPixels(MinimumNorm):
        def search(self, oracle, index):
            points = oracle.inputs[index].clone()
            points[:, 0, 0] += RADIUS * torch.tensor([0.99985, 0.4])
            return points

    images = step_images(1)
    result = TwoPixels().run(StepModel(1), images, zeros(1))
    delta = (result.adversarials - images)[0, 0, 0].double()
    assert result.status == ["ok"]
    assert delta[1] / delta[0] == pytest.approx(0.4 / 0.99985, rel=1e-5)
    assert delta[0] <= RADIUS * 0.99985 * (1 + 2.01e-4)


def test_what_leaves_the_box_is_clipped_before_it_is_judged():
    images, model = step_images(2), StepModel(2)
    result = Scripted([3.0, -3.0]).run(model, images, zeros(2))
    assert result.status == ["ok", "attack_failed"]
    assert result.adversarials[0, 0, 0, 0] == 1.0
    assert result.norms[0] == pytest.approx(0.5)
    assert result.adversarials.min() >= 0


def test_a_search_that_returns_nan_fails_and_spoils_no_number():
    def model(images):
        return torch.stack([THRESHOLD - images[:, 0, 0, 0], torch.zeros(len(images))], 1)

    result = Scripted([torch.nan, 0.3]).run(model, step_images(2), zeros(2))
    assert result.status == ["attack_failed", "ok"]
    assert result.adversarials.isfinite().all()
    assert result.largest_tried.isfinite().all(), "one NaN would make the whole model's lower bound NaN"


class Asking(MinimumNorm):
    """Asks a different number of times about different images, in all the ways there are."""

    def search(self, oracle, index):
        points = oracle.inputs[index].clone()
        oracle.is_adversarial(points, index)
        some = index[::2]
        for _ in range(3):
            oracle.margin_and_gradient(oracle.inputs[some] + push(0.5), some)
        oracle.margin(oracle.inputs[some[:1]] - push(0.8), some[:1])
        points[:, 0, 0, 0] += 0.3
        return points


def test_every_pass_is_counted_and_the_longest_distance_kept():
    images, model = step_images(5), StepModel(5)
    result = Asking().run(model, images, torch.tensor([0, 0, 0, 1, 0]))
    assert result.queries.tolist() == [1 + 1 + 3 + 1 + 1, 3, 6, 1, 3] == model.passes
    assert result.largest_tried.tolist() == pytest.approx([0.8, 0.3, 0.5, 0.0, 0.3], abs=1e-6)
    assert result.largest_tried.tolist() == pytest.approx(model.farthest, abs=1e-6)


def test_several_points_of_one_image_in_one_batch_are_all_counted():
    """Oracle.margin counts "one query per point"; index may name an input several times."""
    images, model = step_images(2), StepModel(2)
    oracle = Oracle(model, images, zeros(2))
    index = torch.tensor([0, 0, 0, 1])
    oracle.margin(images[index] + torch.stack([push(length) for length in (0.8, 0.1, 0.2, 0.6)])[:, None], index)
    assert model.passes == [3, 1]
    assert oracle.queries.tolist() == [3, 1]
    assert oracle.largest_tried.tolist() == pytest.approx([0.8, 0.6], abs=1e-6)


def test_margin_and_gradient_by_hand():
    weights = torch.tensor([[1.0, 2.0, 0.0, 0.0], [0.0, 1.0, 3.0, 0.0], [5.0, 0.0, 0.0, 1.0]])
    image = torch.tensor([0.1, 0.2, 0.3, 0.4]).reshape(1, 1, 2, 2)  # logits 0.5, 1.1, 0.9
    oracle = Oracle(lambda x: x.flatten(1) @ weights.T, image, torch.tensor([1]))
    with torch.no_grad():  # the meter must work whatever the caller's grad mode is
        margin, gradient = oracle.margin_and_gradient(image, torch.tensor([0]))
    assert margin.item() == pytest.approx(0.2)
    assert torch.equal(gradient.flatten(), weights[1] - weights[2])
    assert not margin.requires_grad


@pytest.mark.parametrize("training", [False, True])
def test_the_model_is_left_as_it_was(training):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 4, 2), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(36, 2)).train(training)
    model[1].momentum = 0.0  # in training mode BatchNorm's own bookkeeping is the caller's affair
    images = torch.rand(6, 1, 4, 4)
    before = {name: value.clone() for name, value in model.state_dict().items() if "num_batches" not in name}
    protocol("fmn-5").attack.run(model, images, model(images).argmax(1))
    assert all(torch.equal(model.state_dict()[name], value) for name, value in before.items())
    assert all(parameter.grad is None and parameter.requires_grad for parameter in model.parameters())
    assert {module.training for module in model.modules()} == {training}
    assert not images.requires_grad


def test_protocols_by_name():
    assert protocol("fmn").attack.settings.steps == 1000
    assert protocol("fmn-100").attack.settings.steps == 100
    assert protocol("fmn-100").name == "fmn-100"
    assert protocol("fmn").attack.settings.model_dump() == {
        "steps": 1000, "step_size": 1.0, "last_step_size": 1e-5, "gamma": 0.05, "last_gamma": 0.001,
    }  # fmt: skip
    released = protocol("feng2025-released").attack.settings
    assert (released.steps, released.step_size, released.last_step_size) == (1000, 1.0, 1e-5)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("fmn-0", "steps.*got 0"),
        ("fmn-abc", "steps: .* integer.*got 'abc'"),
        ("fmn-1000", "is called 'fmn'"),
        ("fmn-0100", "is called 'fmn-100'"),
        ("fmn- 100", "is called 'fmn-100'"),
        ("fmn-fast-standard", "is called 'fmn-fast'"),
        ("fmn-fast-92", "budget: .*'fast', 'standard' or 'thorough', got 92"),
        ("fnm", "did you mean 'fmn'"),
        ("feng2025-released-10", "fixed and takes no budget"),
        ("feng2025", "did you mean 'feng2025-released'"),
        ("base", "unknown protocol 'base'"),
        ("fmn-", "steps: .* integer"),
        ("fmn--5", "steps: .*got '-5'"),
        ("fmn-1.5", "steps: .* integer"),
        ("", "unknown protocol"),
        ("../models/zoo", "unknown protocol"),
    ],
)
def test_a_name_that_is_no_protocol_is_refused_in_one_line(name, says):
    with pytest.raises(InputError, match=says) as caught:
        protocol(name)
    assert "\n" not in str(caught.value)


def test_the_digest_tells_budgets_and_attacks_apart_and_nothing_else():
    digests = [protocol(name).sha256 for name in ("fmn", "fmn-100", "fmn-fast", "fmn-fast-fast", "feng2025-released")]
    assert len(set(digests)) == 5
    assert protocol("fmn-100").sha256 == protocol("fmn-100").sha256


@pytest.mark.parametrize("gamma", [5.0, 1.0001, 0.0, -0.1, float("nan")])
def test_a_gamma_that_would_turn_eps_negative_is_refused(gamma):
    with pytest.raises(ValidationError):
        FastMinimumNorm.Settings(gamma=gamma)
    with pytest.raises(InputError, match="gamma") as caught:
        parse(FastMinimumNorm.Settings, {"gamma": gamma}, "protocol 'fmn'")
    assert "\n" not in str(caught.value)


def test_the_refusal_of_gamma_explains_itself():
    """Methods, section 2: "gamma above 1 is refused with an explanation" (Feng's paper states 5.0)."""
    with pytest.raises(InputError, match="negative"):
        parse(FastMinimumNorm.Settings, {"gamma": 5.0}, "protocol 'fmn'")
