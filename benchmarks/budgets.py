"""Norm against passes: every attack that has a budget, at several budgets, as a figure and a table."""

from collections.abc import Iterator
from pathlib import Path

import matplotlib.pyplot as plt
import torch

from advalign.analysis.drawing import save
from benchmarks._peers import Run, grouped, ours, peers
from benchmarks._victims import Victim
from benchmarks.attacks import REFERENCE, Record, markdown, run_on

STEPS = (30, 100, 300)
TICKS = (30, 50, 100, 200, 300)


def attacks() -> dict[str, dict[int, Run]]:
    """Family -> budget -> attack."""
    peers()  # makes adv-lib importable
    import adv_lib.attacks

    def fmn(steps: int) -> Run:
        return grouped(lambda m, x, y: adv_lib.attacks.fmn(m, x, y, norm=2, steps=steps, α_final=1e-5))

    def ddn(steps: int) -> Run:
        return grouped(lambda m, x, y: adv_lib.attacks.ddn(m, x, y, steps=steps, levels=None))

    return {
        "fmn": {steps: ours(f"fmn-{steps}") for steps in STEPS},
        "fmn-fast": {50: ours("fmn-fast-fast"), 100: ours("fmn-fast"), 200: ours("fmn-fast-thorough")},
        "adv-lib fmn": {steps: fmn(steps) for steps in STEPS},
        "adv-lib ddn": {steps: ddn(steps) for steps in STEPS},
    }


def report(victims: list[Victim], figure: Path) -> Iterator[str]:
    """The table, and the figure beside it."""
    families = attacks()
    flat = {f"{name} {budget}": run for name, budgets in families.items() for budget, run in budgets.items()}
    curves: dict[str, list[tuple[float, float]]] = {}
    found = [run_on(victim, {REFERENCE: ours("fmn"), **flat}) for victim in victims]
    for name, budgets in families.items():
        curves[name] = [_point([(records[f"{name} {budget}"], records[REFERENCE]) for records in found])
                        for budget in budgets]  # fmt: skip
    _draw(curves, figure)
    rows = [(name, f"{passes:.0f}", f"{norm:.4f}") for name, points in curves.items() for passes, norm in points]
    yield markdown(("attack", "passes with gradient per image", "mean norm / fmn 1000"), rows)


def _point(pairs: list[tuple[Record, Record]]) -> tuple[float, float]:
    """Passes per image, and the norm relative to the reference's mean per model, over all images of all models."""
    relative, passes, count = [], 0, 0
    for one, other in pairs:
        both = one.norm.isfinite() & other.norm.isfinite()
        relative.append(one.norm[both] / other.norm[both].mean())
        passes, count = passes + one.passes.with_gradient, count + len(one.norm)
    return passes / count, float(torch.cat(relative).mean())


def _draw(curves: dict[str, list[tuple[float, float]]], path: Path) -> None:
    figure, axes = plt.subplots(figsize=(6.4, 4.2), layout="constrained")
    for name, points in curves.items():
        axes.plot(*zip(*points, strict=True), "o-", label=name, linewidth=2.5 if name == "fmn-fast" else 1.2)
    axes.axhline(1, color="0.6", linewidth=0.8)
    beside = axes.get_yaxis_transform()
    axes.text(0.01, 1, "fmn, 1000 passes", transform=beside, va="bottom", color="0.4", fontsize=8)
    axes.set(xscale="log", xlabel="passes (forward and input gradient) per image", ylabel="mean l2 norm / fmn at 1000")
    axes.set_xticks(TICKS, [str(tick) for tick in TICKS])
    axes.set_xticks([], minor=True)
    axes.legend(frameon=False)
    save(figure, path)
