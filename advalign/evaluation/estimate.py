"""What an evaluation would cost: passes, arithmetic and time, from one measured pass per model."""

import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from advalign.attacks.base import Oracle
from advalign.evaluation.runner import Evaluator, Subject
from advalign.models.checkpoints import load_checkpoint


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
        passes = (evaluator.protocol.attack.passes or 0) * evaluator.count
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
    labels = evaluator.stimuli.labels[members].to(evaluator.device)
    oracle = Oracle(classifier, inputs, labels, groups=torch.tensor(card.group_of_class, device=evaluator.device))
    index = torch.arange(len(inputs), device=inputs.device)
    flops = pass_flops(classifier, inputs[:1])
    oracle.margin_and_gradient(inputs, index)  # warms up
    start = time.perf_counter()
    margin, _ = oracle.margin_and_gradient(inputs, index)
    margin.sum().item()  # waits for the device
    seconds = time.perf_counter() - start
    return flops, seconds / len(inputs)


def pass_flops(classifier: Callable[[Tensor], Tensor], image: Tensor) -> float:
    """Floating-point operations of a forward pass with input gradient, as PyTorch's counter counts them.

    Args:
        classifier: whose parameters want no gradient.
        image: (1, 3, H, W); on the device "meta" nothing is computed.
    """
    image = image.detach().clone().requires_grad_(True)
    with FlopCounterMode(display=False) as counter:  # cannot follow autograd.grad to a leaf, but can follow backward
        classifier(image).amax().backward()  # type: ignore[no-untyped-call]
    return float(counter.get_total_flops())
