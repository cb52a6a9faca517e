"""What an evaluation would cost: passes, arithmetic and time."""

import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from advalign.attacks.base import Oracle
from advalign.errors import AdvalignError
from advalign.evaluation.arithmetic import pass_flops
from advalign.evaluation.campaign import Source
from advalign.evaluation.runner import Evaluator
from advalign.models.checkpoints import load_checkpoint
from advalign.models.classifier import Classifier
from advalign.models.fetched import FetchedModel
from advalign.models.zoo import evaluation_transform

YARDSTICK = ("resnet50", 8)  # architecture and number of images for measuring a device's speed


def estimate(
    evaluator: Evaluator,
    sources: Sequence[Source],
    on_model: Callable[[int, int, str], None] = lambda done, total, note: None,
) -> list[dict[str, Any]]:
    """One row per model: state, passes (forward and input gradient), GFLOP per pass, PFLOP in all, seconds.

    Seconds are for one worker. A trained model is timed on one pass over a shard. A zoo model is not fetched: its
    seconds follow from its arithmetic and the speed of ResNet-50 on the device. A finished model takes none.
    """
    rows: list[dict[str, Any]] = []
    speed: float | None = None
    for number, source in enumerate(sources):
        on_model(number, len(sources), source.name)
        row: dict[str, Any] = {"model": source.name, "state": "to run", "passes": 0, "seconds": 0.0}
        rows.append(row)
        try:
            if source.known() is not None and evaluator.is_finished(evaluator.subject(source.folder)):
                row["state"] = "finished"
                continue
            if isinstance(source, FetchedModel):
                speed = speed or yardstick(evaluator.device)
                flops = planned_flops(source, evaluator.settings.stimuli.size)
                seconds = flops / speed
            else:
                flops, seconds = _one_pass(evaluator, source)
        except AdvalignError as error:
            row |= {"state": "cannot run", "error": str(error)}
            continue
        passes = evaluator.protocol.probe.passes * _remaining(evaluator, source)
        row |= {"passes": passes, "gflop_per_pass": flops / 1e9, "pflop": flops * passes / 1e15}
        row["seconds"] = seconds * passes
    return rows


def _remaining(evaluator: Evaluator, source: Source) -> int:
    """Items of the protocol that no finished shard holds."""
    if source.known() is None:
        return evaluator.count
    subject, asked = evaluator.subject(source.folder), evaluator.protocol.name
    shards = evaluator.shards(subject, asked)
    tasks = [task for task in evaluator.tasks(subject) if task.protocol.name == asked]
    return sum(task.last - task.first for task in tasks if shards.load(task) is None)


def planned_flops(model: FetchedModel, size: int) -> float:
    """FLOP of one pass of a zoo model, counted on a network without storage; nothing is fetched.

    Args:
        model: an entry of the zoo.
        size: side of the stimuli in pixels.
    """
    with torch.device("meta"):
        classifier = model.blank().requires_grad_(False)
    return pass_flops(classifier, torch.zeros(1, 3, size, size, device="meta"))


def yardstick(device: str) -> float:
    """FLOP per second of ResNet-50 at 224 pixels on a device."""
    from advalign.models.zoo import create_classifier

    architecture, count = YARDSTICK
    classifier = create_classifier(architecture, 1000, 224, seed=0).eval().requires_grad_(False)
    return _speed(classifier.to(device), torch.rand(count, 3, 224, 224, device=device))


def _speed(classifier: Classifier, images: Tensor) -> float:
    labels = torch.zeros(len(images), dtype=torch.int64, device=images.device)
    return len(images) * pass_flops(classifier, images[:1]) / _seconds(Oracle(classifier, images, labels))


def _seconds(oracle: Oracle) -> float:
    """Duration of one pass over all of an oracle's inputs, after a warm-up pass."""
    index = torch.arange(len(oracle.inputs), device=oracle.inputs.device)
    oracle.margin_and_gradient(oracle.inputs, index)
    start = time.perf_counter()
    margin, _ = oracle.margin_and_gradient(oracle.inputs, index)
    margin.sum().item()  # waits for the device
    return time.perf_counter() - start


def _one_pass(evaluator: Evaluator, source: Source) -> tuple[float, float]:
    """FLOP and seconds of one forward pass with input gradient, per image."""
    torch.set_num_threads(evaluator.settings.evaluate.threads)
    classifier, card = load_checkpoint(source.folder)
    classifier.to(evaluator.device).to(memory_format=torch.channels_last).requires_grad_(False)
    items = evaluator.image_set.items(0, min(evaluator.main.size(card), evaluator.count), evaluator.settings.seed)
    inputs = items.pixels(evaluation_transform(classifier.preprocessing)).to(evaluator.device)
    groups = torch.tensor(card.group_of_class, device=evaluator.device) if evaluator.image_set.grouped else None
    oracle = Oracle(classifier, inputs, items.labels.to(evaluator.device), groups=groups)
    return pass_flops(classifier, inputs[:1]), _seconds(oracle) / len(inputs)
