"""What holds for every recipe in the catalog: a new file in advalign/recipes is tested here by itself."""

import math
import re
import shutil
import sys
from dataclasses import replace

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from advalign.data.batches import Batch
from advalign.models.zoo import create_classifier
from advalign.recipes._pgd import worst_case
from advalign.recipes.base import Position, Recipe
from advalign.settings import TrainSettings
from advalign.training.optimisation import create_optimiser
from tests import extending
from tests.tiny_recipes import CLASSES, DIMENSIONS, POSITION, batch, double, gradients, net, smooth_net, taken, told
from tests.tiny_training import BATCH, Images, fit, state

torch.set_num_threads(1)

NAMES = extending.names("recipe")
every_recipe = pytest.mark.parametrize("name", NAMES)


def recipe(name, label_smoothing=0.0, **values):
    recipe_class = extending.load("recipe", name)
    return told(recipe_class(recipe_class.Settings(**values), label_smoothing))


@every_recipe
@pytest.mark.parametrize("step", [0, 1, 9])
def test_the_loss_is_a_finite_scalar_that_reaches_every_parameter(name, step):
    model, sample = net(), batch()
    result = recipe(name)(model, sample, Position(step, 10))
    assert result["loss"].shape == ()
    assert result["loss"].isfinite()
    assert result["loss"].dtype == torch.float32
    assert result["logits"].shape == (6, CLASSES)
    assert all(parameter.grad is None for parameter in model.parameters()), "the loss alone must leave no gradients"
    for part in set(result) - {"loss", "logits"}:
        assert result[part].shape == ()
        assert not result[part].requires_grad, f"{part} is only logged"
    result["loss"].backward()
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.isfinite().all(), key
    assert model[-1].weight.grad.abs().sum() > 0


@every_recipe
@pytest.mark.parametrize("training", [True, False])
def test_the_model_keeps_its_mode_and_the_batch_its_values(name, training):
    model, sample = net().train(training), batch()
    recipe(name)(model, sample, Position(0, 10))
    assert {module.training for module in model.modules()} == {training}
    fresh = batch()
    for field in ("images", "labels", "heatmaps", "has_heatmap", "responses", "has_response"):
        assert torch.equal(getattr(sample, field), getattr(fresh, field))
        assert not getattr(sample, field).requires_grad


@every_recipe
def test_batch_statistics_are_updated_once_per_step(name):
    """BatchNorm must see one batch per step, however many passes a recipe makes."""
    model = net().train()
    recipe(name)(model, batch(), Position(0, 10))
    assert model[1].num_batches_tracked == 1


@every_recipe
def test_the_same_batch_gives_the_same_loss(name):
    losses = []
    for _ in range(2):
        torch.manual_seed(3)
        losses.append(recipe(name)(net(), batch(), Position(0, 10))["loss"])
    assert torch.equal(*losses)


@every_recipe
def test_label_smoothing_reaches_the_loss(name):
    torch.manual_seed(3)
    plain = recipe(name)(net(), batch(), Position(1, 10))
    torch.manual_seed(3)
    smoothed = recipe(name, 0.2)(net(), batch(), Position(1, 10))
    torch.testing.assert_close(smoothed["logits"], plain["logits"])  # what is attacked does not depend on it
    log_probabilities = plain["logits"].log_softmax(1)
    hard = log_probabilities[torch.arange(6), batch().labels]
    expected = -(0.8 * hard + 0.2 * log_probabilities.mean(1)).mean()
    extra = plain["loss"] + hard.mean()  # what the recipe adds to the cross-entropy
    torch.testing.assert_close(smoothed["loss"], expected + extra, rtol=1e-5, atol=1e-6)


@every_recipe
def test_its_name_is_as_published_models_are_named(name):
    pattern = r"resnet18(_(l2|linf)_eps[0-9.]+(_255)?|_noise[0-9.]+)?(\.[a-z][a-z0-9.]*)?"
    published = recipe(name).published_name("resnet18")
    assert re.fullmatch(pattern, published), published
    assert published != "resnet18"
    assert recipe(name).published_name("vit_tiny_patch16_224").startswith("vit_tiny_patch16_224")
    if "eps" in extending.load("recipe", name).Settings.model_fields:
        assert "l2_eps0.25" in recipe(name, constraint="l2", eps=0.25).published_name("resnet18")
        linf = recipe(name, constraint="linf", eps=0.5 / 255).published_name("resnet18")
        assert "resnet18_linf_eps0.5_255" in linf
        assert "linf_eps8_255" in recipe(name, constraint="linf", eps=8 / 255).published_name("resnet18")


def test_what_its_models_count_as_and_are_compared_with():
    said = {name: (extending.load("recipe", name).group, recipe(name).baseline("resnet18")) for name in NAMES}
    assert said == {
        "baseline": ("standard", None),
        "harmonized": ("harmonized", "resnet18.baseline"),
        "robust": ("robust", "resnet18.baseline"),
        "combined": ("robust", "resnet18.baseline"),
        "adversarial": ("robust", "resnet18.baseline"),
        "noise": ("noise", "resnet18.baseline"),
        "aligned": ("aligned", "resnet18.baseline"),
        "aligned-adversarial": ("robust", "resnet18.baseline"),
        "guided": ("guided", "resnet18.baseline"),
        "manifold-guided": ("manifold-guided", "resnet18.baseline"),
    } | {name: (name, "resnet18.baseline") for name in ("noisy", "unsure")}


def test_a_group_is_not_inherited():
    """A relative of the baseline that says nothing must not count among the standard models."""
    for name in NAMES:
        parent = extending.load("recipe", name)
        assert type("Relative", (parent,), {"__module__": "advalign.recipes.of_a_lab"}).group == "of-a-lab"


def test_published_names_by_value_and_all_different():
    names = {name: recipe(name).published_name("resnet18") for name in NAMES}
    assert len(set(names.values())) == len(names)
    assert names["baseline"] == "resnet18.baseline"
    assert names["harmonized"] == "resnet18.harmonized"
    assert recipe("robust", eps=0.25).published_name("resnet18") == "resnet18_l2_eps0.25"
    assert recipe("combined", eps=0.25).published_name("resnet18") == "resnet18_l2_eps0.25.combined"
    assert names["adversarial"] == "resnet18_linf_eps8_255.adversarial"
    assert names["noise"] == "resnet18_noise0.25"
    assert recipe("noise", sigma=0.12).published_name("resnet18_cifar") == "resnet18_cifar_noise0.12"
    assert names["aligned"] == "resnet18.aligned"
    assert names["aligned-adversarial"] == "resnet18_linf_eps8_255.aligned"
    assert recipe("aligned", masks="shuffled").published_name("resnet18") == "resnet18.aligned.shuffled"
    assert recipe("aligned", released=True).published_name("resnet18") == "resnet18.aligned.released"
    area = {"responses": "nsd_1", "roi": "hV4"}
    assert recipe("guided", **area, subject="S2").published_name("resnet18") == "resnet18.guided.nsd.1.hv4.s2"
    assert recipe("guided", **area, loss="cka").published_name("resnet18") == "resnet18.guided.cka.nsd.1.hv4"
    shuffled = recipe("manifold-guided", **area, control="shuffled", released=True)
    assert shuffled.published_name("resnet18") == "resnet18.manifold.guided.nsd.1.hv4.shuffled.released"


@every_recipe
def test_it_is_described_and_its_settings_are_frozen(name):
    recipe_class = extending.load("recipe", name)
    assert issubclass(recipe_class, Recipe)
    for described in (sys.modules[recipe_class.__module__], recipe_class, recipe_class.Settings, recipe_class.__call__):
        assert described.__doc__
    assert f"advalign train {name}" in sys.modules[recipe_class.__module__].__doc__, "its head gives its command"
    settings = recipe_class.Settings()
    for field in recipe_class.Settings.model_fields:
        with pytest.raises(ValidationError, match="frozen"):
            setattr(settings, field, getattr(settings, field))
    with pytest.raises(ValidationError, match="extra"):
        recipe_class.Settings(no_such_setting=1)
    assert isinstance(recipe_class.twice_differentiable, bool)


@every_recipe
@pytest.mark.parametrize("parts", [2, 3, 6])
def test_parts_of_a_batch_add_up_to_its_gradient(name, parts):
    """One part holds no map at all: it must count like the images without a map that it is made of."""
    if recipe(name).whole_batch:
        pytest.skip("it compares images of the batch with each other; plan.resolve refuses parts")
    sample = double(batch())
    sample = replace(sample, has_heatmap=torch.tensor([True, True, True, True, False, False]))
    model = smooth_net()
    torch.manual_seed(3)
    whole = recipe(name)(model, sample, POSITION)
    expected, found = gradients(model, whole["loss"]), torch.zeros(())
    losses = []
    torch.manual_seed(3)
    for part in torch.arange(6).split(6 // parts):
        result = recipe(name)(model, taken(sample, part), POSITION)
        found = found + gradients(model, result["loss"] / parts)
        losses.append(result["loss"].item())
    assert float((found - expected).norm() / expected.norm()) < 1e-6
    assert sum(losses) / parts == pytest.approx(whole["loss"].item(), rel=1e-6)


@every_recipe
@pytest.mark.parametrize("accumulate", [2, 4, 16])
def test_the_loop_adds_parts_up_to_the_gradient_of_the_whole_batch(name, accumulate, tmp_path):
    if recipe(name).whole_batch:
        pytest.skip("it compares images of the batch with each other; plan.resolve refuses parts")
    if draws(name):
        pytest.skip("it draws random numbers, which belong to a part: parity/test_distributed.py")

    def first_gradient(parts):
        trained = fit(tmp_path, recipe(name), network=Double, accumulate=parts, clip_norm=None, images=HALF)
        found = []
        parameters = list(trained.classifier.parameters())
        trained.optimiser.register_step_pre_hook(lambda *_: found.extend(p.grad.flatten().clone() for p in parameters))
        trained._step(trained.data.epoch(0, 0, trained.world.share), POSITION)
        assert trained.meter.seen == BATCH
        return torch.cat(found), trained.meter.means(trained.world)["loss"]

    (whole, loss), (found, parts_loss) = first_gradient(1), first_gradient(accumulate)
    assert float((found - whole).norm() / whole.norm()) < 1e-6
    assert parts_loss == pytest.approx(loss, rel=1e-6)


def seeded(one, model, sample):
    torch.manual_seed(3)
    return one(model, sample, POSITION)


def draws(name):
    """Whether a recipe draws random numbers."""
    before = torch.random.get_rng_state()
    recipe(name)(net(), batch(), POSITION)
    return not torch.equal(before, torch.random.get_rng_state())


HALF = Images(1, lacking=lambda number: number % 2 == 0)


class Double(nn.Module):
    """Computes in float64, so that gradients differ by nothing but how they are added up."""

    def __init__(self):
        super().__init__()
        self.network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Tanh(), nn.Flatten(), nn.Linear(400, 3)).double()

    def forward(self, images):
        return self.network(images.double())


@every_recipe
@pytest.mark.parametrize(("count", "height", "width"), [(1, 16, 16), (1, 17, 13), (5, 15, 15), (3, 1, 9)])
def test_one_image_and_odd_sizes(name, count, height, width):
    generator = torch.Generator().manual_seed(2)
    shape = (count, height, width)
    sample = Batch(
        torch.rand(count, 3, height, width, generator=generator),
        torch.arange(count),
        torch.rand(shape, generator=generator),
        torch.ones(count, dtype=torch.bool),
        responses=torch.rand(count, DIMENSIONS, generator=generator),
        has_response=torch.ones(count, dtype=torch.bool),
    )
    model = smooth_net().float().train()
    result = recipe(name)(model, sample, POSITION)
    assert result["loss"].isfinite()
    assert gradients(model, result["loss"]).isfinite().all()


@every_recipe
def test_a_one_hot_mixture_is_its_labels(name):
    sample, model = double(batch()), smooth_net()
    mixed = replace(sample, mixture=nn.functional.one_hot(sample.labels, CLASSES).double())
    for smoothing in (0.0, 0.1):
        one, two = (seeded(recipe(name, smoothing), model, each) for each in (sample, mixed))
        assert one.keys() == two.keys()
        for part in one:
            torch.testing.assert_close(two[part], one[part], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    ("name", "values", "passes"),
    [
        ("baseline", {}, 3),
        ("robust", {"steps": 2}, 7),
        ("robust", {"steps": 3, "ramp": 0.5, "random_start": True}, 9),
        ("adversarial", {}, 13),
        ("adversarial", {"steps": 3, "mixture": "alternating"}, 6),
        ("harmonized", {"every": 1}, 6),
        ("harmonized", {"every": 2}, 4.5),
        ("harmonized", {"lambda_1": 0}, 3),
        ("combined", {"steps": 2, "every": 1}, 10),
        ("combined", {"steps": 7, "every": 2}, 18.5),
        ("combined", {"steps": 2, "lambda_1": 0.0}, 7),
        ("noise", {}, 3),
        ("guided", {}, 3),
        ("manifold-guided", {}, 3),
    ],
)
def test_passes_by_value(name, values, passes):
    assert recipe(name, **values).passes == passes


@pytest.mark.parametrize("name", ["harmonized", "combined"])
def test_without_a_map_in_the_batch_the_loss_is_the_cross_entropy(name):
    """Whatever stands in place of the maps; the passes are the same, as another process may have images with maps."""
    sample, model = double(batch()), smooth_net()
    sample = replace(sample, has_heatmap=torch.zeros(6, dtype=torch.bool), heatmaps=sample.heatmaps * 99)
    result = recipe(name)(model, sample, POSITION)
    assert result["map_term"] == 0
    assert torch.equal(result["loss"], result["cross_entropy"])
    ball = recipe(name).settings
    images = sample.images
    if name == "combined":
        images = worst_case(model, images, sample.labels, ball, POSITION)
    expected = nn.functional.cross_entropy(model(images), sample.labels)
    torch.testing.assert_close(result["loss"], expected)
    torch.testing.assert_close(gradients(model, result["loss"]), gradients(model, expected))


@pytest.mark.parametrize("name", ["harmonized", "combined"])
@pytest.mark.parametrize(("values", "step"), [({"lambda_1": 0.0}, 0), ({"every": 2}, 1), ({"every": 5}, 4)])
def test_without_the_map_term_nothing_is_differentiated_twice(name, values, step, monkeypatch):
    graphs, grad = [], torch.autograd.grad

    def watched(*given, create_graph=False, **named):
        graphs.append(create_graph)
        return grad(*given, create_graph=create_graph, **named)

    monkeypatch.setattr(torch.autograd, "grad", watched)
    result = recipe(name, **values)(smooth_net(), double(batch()), Position(step, 10))
    assert "map_term" not in result
    assert not any(graphs)
    recipe(name)(smooth_net(), double(batch()), Position(0, 10))
    assert any(graphs)


@pytest.mark.parametrize("name", ["robust", "combined"])
def test_the_searchs_statistics_are_kept_only_where_asked(name):
    def trained(**values):
        model = net().train()
        recipe(name, steps=3, eps=1.0, **values)(model, batch(), POSITION)
        return model[1]

    plain, polluted = trained(), trained(batch_statistics=True)
    assert plain.num_batches_tracked == 1
    assert polluted.num_batches_tracked == 4  # three iterates, and the step itself
    clean = net().train()
    clean(worst_case(net().train(), batch().images, batch().labels, recipe(name, steps=3, eps=1.0).settings, POSITION))
    assert torch.equal(plain.running_mean, clean[1].running_mean)
    assert torch.equal(plain.running_var, clean[1].running_var)
    assert not torch.allclose(polluted.running_mean, plain.running_mean, rtol=1e-2)


@pytest.mark.parametrize("name", ["robust", "combined"])
def test_a_search_with_batch_statistics_climbs_the_loss_of_training_mode(name):
    """In training mode the batch norm sees the batch: its iterates are others, and the mode is as before."""
    model, sample = net().train(), batch()
    model[1].running_mean.fill_(0.5)
    settings = [recipe(name, eps=0.5, batch_statistics=value).settings for value in (True, False)]
    own, other = (worst_case(model, sample.images, sample.labels, ball, Position(0, 1)) for ball in settings)
    assert not torch.allclose(own, other, atol=1e-3)
    losses = [nn.functional.cross_entropy(net().train()(images), sample.labels) for images in (own, other)]
    assert losses[0] > losses[1]
    assert {module.training for module in model.modules()} == {True}


@pytest.mark.parametrize("name", ["baseline", "robust", "guided", "manifold-guided"])
def test_bfloat16_is_near_float32(name, tmp_path):
    history = {
        precision: fit(tmp_path / precision, recipe(name, **SMALL[name]), precision=precision).run([])
        for precision in ("float32", "bfloat16")
    }
    for full, half in zip(history["float32"], history["bfloat16"], strict=True):
        assert half["loss"] == pytest.approx(full["loss"], rel=0.02)
        assert half["loss"] != full["loss"]  # it was computed in another precision
    weights = torch.load(tmp_path / "bfloat16" / "state.pt", weights_only=True)["network"]
    assert {value.dtype for value in weights.values()} == {torch.float32, torch.int64}
    assert all(value.isfinite().all() for value in weights.values())


SMALL = {"baseline": {}, "robust": {"eps": 0.5, "steps": 2}, "guided": {}, "manifold-guided": {}}


@pytest.mark.parametrize("name", ["baseline", "robust", "guided", "manifold-guided"])
def test_channels_last_gives_the_same_loss(name, tmp_path):
    """Of an epoch, before rounding has grown with the steps; without dropout, whose draws follow the layout."""
    layouts = []

    def trained(last):
        found = fit(
            tmp_path / str(last), recipe(name, **SMALL[name]), network=convolutions, channels_last=last, epochs=1
        )
        found.classifier.network[0].register_forward_pre_hook(
            lambda _, inputs: layouts.append((last, inputs[0].is_contiguous(memory_format=torch.channels_last)))
        )
        return found.run([])

    plain, last = trained(False), trained(True)
    assert [row["loss"] for row in last] == pytest.approx([row["loss"] for row in plain], rel=1e-5)
    assert {(False, False), (True, True)} <= set(layouts)


def convolutions():
    return nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.SiLU(), nn.Conv2d(8, 8, 3, stride=2), nn.AdaptiveAvgPool2d(2),
        nn.Flatten(), nn.Linear(32, 3),
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
@pytest.mark.parametrize("name", ["baseline", "robust"])
def test_a_compiled_step_is_the_same(name, tmp_path, monkeypatch):
    monkeypatch.setattr("torch._inductor.config.compile_threads", 1)  # no processes that import torch for it

    def stepped(compiled):
        torch.compiler.reset()
        found = fit(tmp_path, recipe(name, **SMALL[name]), network=convolutions, compile=compiled, ema=0.5)
        loss = found._step(found.data.epoch(0, 0, found.world.share), Position(1, 10))
        return loss.item(), torch.cat([p.grad.flatten() for p in found.classifier.parameters()]), state(found)

    plain, compiled = stepped(False), stepped(True)
    assert compiled[0] == pytest.approx(plain[0], rel=1e-5)
    assert float((compiled[1] - plain[1]).norm() / plain[1].norm()) < 1e-5
    assert compiled[2].keys() == plain[2].keys()  # a compiled network is saved under the same names


@pytest.mark.parametrize("name", ["harmonized", "combined"])
@pytest.mark.parametrize(
    ("architecture", "size", "arguments"),
    [
        ("vit_tiny_patch16_224", 32, {"patch_size": 8, "depth": 2}),
        ("mobilenetv3_small_050", 64, {}),
    ],
)
def test_networks_that_pytorch_cannot_differentiate_twice_as_they_are(name, architecture, size, arguments):
    model = create_classifier(architecture, CLASSES, size, seed=0, arguments=arguments, twice_differentiable=True)
    kinds = {type(module).__name__ for module in model.modules()}
    assert kinds & ({"Attention"} if architecture.startswith("vit") else {"SmoothHardswish"})
    generator = torch.Generator().manual_seed(1)
    sample = Batch(
        torch.rand(4, 3, size, size, generator=generator),
        torch.arange(4) % CLASSES,
        torch.rand(4, size, size, generator=generator),
        torch.tensor([True, True, False, True]),
    )
    optimiser = create_optimiser(model.train(), TrainSettings(learning_rate=1e-3))
    values = {"steps": 1} if name == "combined" else {}
    losses = []
    for step in (0, 2):
        result = recipe(name, **values)(model, sample, Position(step, 10))
        assert result["map_term"] > 0
        optimiser.zero_grad()
        result["loss"].backward()
        reached = [float(parameter.grad.abs().sum()) for parameter in model.parameters()]
        assert all(math.isfinite(value) for value in reached)
        assert sum(value > 0 for value in reached) > 0.8 * len(reached)
        optimiser.step()
        losses.append(result["loss"].item())
    assert all(parameter.isfinite().all() for parameter in model.parameters())
    assert losses[0] != losses[1]
