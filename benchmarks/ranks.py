"""Alignment scoring: batched rank correlation against a loop over scipy's."""

from collections.abc import Iterator

import torch
from scipy.stats import spearmanr

from advalign.tensors.heatmaps import magnitude_map
from advalign.tensors.ranks import average_ranks, correlation, rank_correlation
from benchmarks._timing import ratio
from benchmarks.attacks import markdown


def report() -> Iterator[str]:
    """Two rows: both sides ranked, and the human side's ranks kept."""
    generator = torch.Generator().manual_seed(0)
    human = (torch.rand(16, 224 * 224, generator=generator) * 255).round() / 255
    found = magnitude_map(torch.randn(16, 3, 224, 224, generator=generator)).flatten(1)
    ranks = average_ranks(human).float()

    def scipy() -> list[float]:
        return [spearmanr(a, b).statistic for a, b in zip(found.numpy(), human.numpy(), strict=True)]

    rows = [
        ("both sides ranked", f"{ratio(lambda: rank_correlation(found, human), scipy):.2f}"),
        ("human ranks kept", f"{ratio(lambda: correlation(average_ranks(found), ranks), scipy):.2f}"),
    ]
    yield markdown(("16 maps of 224x224", "time / scipy.stats.spearmanr in a loop"), rows)
