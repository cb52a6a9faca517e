"""Time of training steps: against their arithmetic minimum, against other loops, and with different options."""

import sys
import types
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from advalign import catalog
from advalign.data.batches import Batch
from advalign.models.classifier import Classifier
from advalign.models.zoo import create_classifier
from advalign.recipes.base import Position, Recipe
from advalign.settings import Training, TrainSettings
from advalign.tensors.heatmaps import standardise
from advalign.tensors.pyramid import gaussian_pyramid
from advalign.training.cost import forward_flops
from benchmarks._timing import Cost, ratio
from benchmarks.attacks import markdown
from benchmarks.cost import best_time, matmul_peak

RECIPES: dict[str, dict[str, Any]] = {
    "baseline": {},
    "robust": {"eps": 1.0, "steps": 3},
    "harmonized": {"every": 1},
    "combined": {"eps": 1.0, "steps": 3, "every": 1},
}
WORK = {  # (model, side, batch)
    "cpu": [("test_resnet", 64, 64), ("resnet18", 64, 32), ("resnet50", 64, 16), ("vit_tiny_patch16_224", 64, 32)],
    "cuda": [("resnet50", 224, 256), ("vit_tiny_patch16_224", 224, 512)],
}
CLASSES = 100
MIDDLE = Position(100, 200)
Step = Callable[[], object]


def recipe_of(name: str, **values: Any) -> Recipe:
    """A recipe with the benchmark's values, or others."""
    kind = catalog.load("recipe", name)
    recipe: Recipe = kind(kind.Settings(**{**RECIPES[name], **values}))
    return recipe


def network(model: str, side: int, twice: bool, device: str) -> Classifier:
    """An untrained network in training mode."""
    classifier = create_classifier(model, CLASSES, side, seed=0, twice_differentiable=twice)
    return classifier.to(device).train()


def batch_of(side: int, count: int, device: str) -> Batch:
    """Noise with maps."""
    draw = torch.Generator().manual_seed(0)
    images, maps = torch.rand(count, 3, side, side, generator=draw), torch.rand(count, side, side, generator=draw)
    labels = torch.randint(0, CLASSES, (count,), generator=draw)
    return Batch(*(value.to(device) for value in (images, labels, maps, torch.ones(count, dtype=torch.bool))))


def step(recipe: Recipe, classifier: Classifier, batch: Batch, half: bool = False) -> Step:
    """A step as the loop takes it: zero, recipe, backward."""

    def work() -> None:
        classifier.zero_grad(set_to_none=True)
        with torch.autocast(batch.images.device.type, torch.bfloat16) if half else nullcontext():
            loss = recipe(classifier, batch, MIDDLE)["loss"]
        loss.backward()  # type: ignore[no-untyped-call]

    return work


def report() -> Iterator[str]:
    """All tables."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    yield from costs(device)
    yield from loops(device)
    yield from options(device)


def costs(device: str) -> Iterator[str]:
    """Images per second, share of the peak, memory, and cost over a baseline step against the arithmetic minimum.

    On a GPU what is differentiated once runs in bfloat16, the rest in TF32: each beside its own baseline and peak.
    """
    torch.set_float32_matmul_precision("high" if device == "cuda" else "highest")
    halves = {name: device == "cuda" and not recipe_of(name).twice_differentiable for name in RECIPES}
    peaks = {half: matmul_peak(device, torch.bfloat16 if half else torch.float32) for half in set(halves.values())}
    rows = []
    for model, side, count in WORK[device]:
        batch, shape = batch_of(side, count, device), TrainSettings.model_validate({"size": side})
        forward = forward_flops(Training(model=model, recipe="baseline"), shape, CLASSES)
        for name, half in halves.items():
            recipe = recipe_of(name)
            work = step(recipe, network(model, side, recipe.twice_differentiable, device), batch, half)
            plain = step(recipe_of("baseline"), network(model, side, False, device), batch, half)
            cost = Cost()
            cost.measure(work)
            rate = count / best_time(work, 3)
            share = 100 * forward * recipe.passes * rate / peaks[half]
            over = 1.0 if name == "baseline" else ratio(work, plain, 3)
            figures = (f"{rate:.0f}", f"{share:.0f} %", f"{cost.memory:.0f}", f"{over:.2f}", f"{recipe.passes / 3:.2f}")
            rows.append((f"{model}, {side}, {count}", name, *figures))
    told = ", ".join(f"{peak / 1e9:.0f} ({'bfloat16' if half else 'float32'})" for half, peak in peaks.items())
    yield f"Matrix product on this device, GFLOP/s: {told}.\n"
    heads = ("network, side, batch", "recipe", "images/s", "of the peak", "MiB", "time / baseline", "at least")
    yield markdown(heads, rows)


def loops(device: str) -> Iterator[str]:
    """Ours over another loop on the same work."""
    rows = []
    for model, side, count in WORK[device][:2]:
        batch = batch_of(side, count, device)
        peers = {"robust": robustness_step, "harmonized": plain_harmonized_step, "baseline": plain_step}
        for name, make in peers.items():
            recipe = recipe_of(name)
            twice = recipe.twice_differentiable
            ours = step(recipe, network(model, side, twice, device), batch)
            peer = make(network(model, side, twice, device), batch)
            rows.append((f"{model}, {side}, {count}", name, make.__doc__ or "", f"{ratio(ours, peer):.2f}"))
    yield markdown(("network, side, batch", "recipe", "peer", "time / peer"), rows)


def robustness_step(classifier: Classifier, batch: Batch) -> Step:
    """The robustness package's AttackerModel, 3 steps"""  # noqa: D415  a cell of a table
    known = types.ModuleType("torchvision.models.utils")
    vars(known)["load_state_dict_from_url"] = torch.hub.load_state_dict_from_url
    sys.modules.setdefault("torchvision.models.utils", known)
    from robustness.attacker import AttackerModel

    class Plain(nn.Module):
        """It hands keywords over that timm's networks do not take."""

        def __init__(self) -> None:
            super().__init__()
            self.network = classifier.network

        def forward(self, images: Tensor, **_: object) -> Tensor:
            """Logits."""
            logits: Tensor = self.network(images)
            return logits

    dataset = types.SimpleNamespace(mean=classifier.mean.flatten(), std=classifier.std.flatten())
    attacked = AttackerModel(Plain(), dataset).to(batch.images.device).train()
    here = batch.images.as_subclass(Here)
    values = {"constraint": "2", "eps": 1.0, "step_size": 2.5 / 3, "iterations": 3, "use_best": False}

    def work() -> None:
        classifier.zero_grad(set_to_none=True)
        logits, _ = attacked(here, target=batch.labels, make_adv=True, **values)
        F.cross_entropy(logits, batch.labels).backward()  # type: ignore[no-untyped-call]

    return work


class Here(Tensor):
    """A tensor that is where it should be: the package moves every batch to a GPU."""

    def cuda(self, *_: object, **__: object) -> Tensor:
        """Itself."""
        return self.as_subclass(Tensor)


def plain_step(classifier: Classifier, batch: Batch) -> Step:
    """cross-entropy, written out"""  # noqa: D415

    def work() -> None:
        classifier.zero_grad(set_to_none=True)
        F.cross_entropy(classifier(batch.images), batch.labels).backward()  # type: ignore[no-untyped-call]

    return work


def plain_harmonized_step(classifier: Classifier, batch: Batch) -> Step:
    """Fel et al.'s loss, written out"""  # noqa: D415

    def work() -> None:
        classifier.zero_grad(set_to_none=True)
        images = batch.images.detach().requires_grad_(True)
        logits = classifier(images)
        target = logits[torch.arange(len(logits)), batch.labels].sum()
        (gradient,) = torch.autograd.grad(target, images, create_graph=True)
        model, human = standardise(gradient.mean(1)).relu(), standardise(batch.heatmaps).relu()
        human = human * model.detach().amax((1, 2), True) / (human.amax((1, 2), True) + 1e-6)
        term = torch.zeros((), device=images.device)
        for ours, theirs in zip(gaussian_pyramid(model, 5), gaussian_pyramid(human, 5), strict=True):
            term = term + F.mse_loss(ours, theirs) / 5
        (F.cross_entropy(logits, batch.labels) + 4 * term).backward()  # type: ignore[no-untyped-call]

    return work


def options(device: str) -> Iterator[str]:
    """A step with an option over the same step without."""
    rows = []
    for model, side, count in WORK[device][:3]:
        batch = batch_of(side, count, device)
        for name in ("baseline", "robust", "harmonized"):
            recipe = recipe_of(name)
            plain = step(recipe, network(model, side, recipe.twice_differentiable, device), batch)
            found = [ratio(work, plain, 3) for work in _variants(recipe, model, side, batch, device)]
            rows.append((f"{model}, {side}, {count}", name, *(f"{value:.2f}" for value in found)))
    yield markdown(("network, side, batch", "recipe", "channels_last", "bfloat16", "frozen in the search"), rows)


def _variants(recipe: Recipe, model: str, side: int, batch: Batch, device: str) -> Iterator[Step]:
    """The options, in the order of the table; without a search the last is the same step again."""
    twice = recipe.twice_differentiable
    last = network(model, side, twice, device).to(memory_format=torch.channels_last)
    layout = {"memory_format": torch.channels_last}
    images = batch.images.contiguous(**layout)
    yield step(recipe, last, Batch(images, batch.labels, batch.heatmaps, batch.has_heatmap))
    yield step(recipe, network(model, side, twice, device), batch, half=True)
    yield _frozen(recipe, network(model, side, twice, device), batch)


def _frozen(recipe: Recipe, classifier: Classifier, batch: Batch) -> Step:
    """The same step where the weights want no gradient until the search's last iterate is there."""
    passes = getattr(recipe.settings, "steps", 0)

    def work() -> None:
        classifier.zero_grad(set_to_none=True)
        seen = 0

        def thaw(*_: object) -> None:
            nonlocal seen
            classifier.requires_grad_(seen >= passes)
            seen += 1

        hook = classifier.register_forward_pre_hook(thaw)
        recipe(classifier, batch, MIDDLE)["loss"].backward()  # type: ignore[no-untyped-call]
        hook.remove()

    return work
