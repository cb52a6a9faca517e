"""What an evaluation would cost: passes, arithmetic and time, from one measured pass per model."""

import time
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from advalign.attacks.base import Oracle
from advalign.evaluation.runner import Evaluator, Subject
from advalign.models.checkpoints import load_checkpoint
from advalign.models.superclasses import GroupedClassifier


def estimate(evaluator: Evaluator, subjects: list[Subject]) -> list[dict[str, Any]]:
    """One row per model: state, passes (forward and input gradient, at most), GFLOP per pass, PFLOP in all, seconds.

    Seconds are for one worker, from one timed pass over a shard; a finished model costs nothing.
    """
    rows = []
    for subject in subjects:
        if evaluator.is_finished(subject):
            rows.append({"model": subject.name, "state": "finished", "passes": 0, "seconds": 0.0})
            continue
        flops, seconds = _one_pass(evaluator, subject)
        passes = int(getattr(evaluator.protocol.attack.settings, "steps", 0)) * evaluator.count
        rows.append(
            {
                "model": subject.name,
                "state": "to run",
                "passes": passes,
                "gflop_per_pass": flops / 1e9,
                "pflop": flops * passes / 1e15,
                "seconds": seconds * passes,
            }
        )
    return rows


def _one_pass(evaluator: Evaluator, subject: Subject) -> tuple[float, float]:
    """FLOP and seconds of one forward pass with input gradient, per image."""
    torch.set_num_threads(evaluator.settings.evaluate.threads)
    classifier, card = load_checkpoint(subject.checkpoint)
    classifier.to(evaluator.device).to(memory_format=torch.channels_last).requires_grad_(False)
    members = slice(0, min(evaluator.settings.evaluate.shard_size, evaluator.count))
    inputs = evaluator.stimuli.images[members].to(evaluator.device)
    grouped = GroupedClassifier(classifier, card.group_of_class).to(evaluator.device)
    oracle = Oracle(grouped, inputs, evaluator.stimuli.labels[members].to(evaluator.device))
    index = torch.arange(len(inputs), device=inputs.device)
    points = inputs.clone().requires_grad_(True)
    with FlopCounterMode(display=False) as counter:  # cannot follow autograd.grad to a leaf, but can follow backward
        oracle.margin(points, index).sum().backward()  # type: ignore[no-untyped-call]
    start = time.perf_counter()
    margin, _ = oracle.margin_and_gradient(inputs, index)
    margin.sum().item()  # waits for the device
    return counter.get_total_flops() / len(inputs), (time.perf_counter() - start) / len(inputs)
