"""Minimum linf norms beside other attacks: norms, and the decisions that follow from them at every eps.

A search for minimum norms says at once which images hold at each eps; an attack within a radius is run for each. So
robust accuracy is compared image by image at a few eps, and passes and time are those of the whole answer at one eps.
Perturbations are judged here, outside the attacks, by the float32 model.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from math import inf
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from torch import Tensor, nn

from advalign.analysis.drawing import save
from advalign.attacks.autoattack import CLASSES
from advalign.attacks.base import Bounded
from advalign.evaluation.protocols import protocol
from advalign.strict_settings import parse
from advalign.tensors.norms import linf_norm
from benchmarks._peers import Run, grouped, ours, peers
from benchmarks._timing import Cost
from benchmarks._victims import Metered, Passes, Victim
from benchmarks.attacks import markdown

OURS, FMN, AUTOATTACK = "**linf-curve (100)**", "adv-lib fmn linf, 1000", "AutoAttack"
ROUNDING = 1e-7  # of a point that was projected onto its ball, in pixels
BATCH = 64
EPS: dict[str, tuple[float, ...]] = {
    "resnet20 (real, CIFAR-10)": (0.5,),
    "resnet4b (real, CIFAR-10)": (1, 2, 4, 8),
    "cnn_a_mix (real, CIFAR-10)": (2,),
    "kw8 (real, CIFAR-10)": (8,),
    "test_resnet.baseline": (1,),
    "test_resnet_l2_eps1": (8,),
}
"""Where AutoAttack is run, in 1/255."""

NORM_HEADINGS = ("attack", "mean norm / 255", "mean", "p90", "worst", "success", "passes", "forward only", "time")
EPS_HEADINGS = (
    "eps / 255",
    "attack",
    "hold",
    "only this flips",
    "only linf-curve flips",
    "passes, relative",
    "time, relative",
)


@dataclass
class Record:
    """What one attack did to one model.

    Attributes:
        norm: (N,) linf norms, infinite where nothing was found.
    """

    norm: Tensor
    passes: Passes
    cost: Cost


def searches() -> dict[str, Run]:
    """Searches for minimum norms."""
    peers()  # makes adv-lib importable
    import adv_lib.attacks
    import foolbox

    def from_foolbox(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        attack = foolbox.attacks.LInfFMNAttack(steps=1000, max_stepsize=1.0, gamma=0.05)
        found: Tensor = attack(foolbox.PyTorchModel(model, bounds=(0, 1)), images, labels, epsilons=None)[0]
        return found

    return {
        "linf-curve-fast (50)": ours("linf-curve-fast"),
        OURS: ours("linf-curve"),
        "linf-curve-thorough (200)": ours("linf-curve-thorough"),
        FMN: grouped(lambda m, x, y: adv_lib.attacks.fmn(m, x, y, norm=inf, steps=1000)),
        "adv-lib fmn linf, 100": grouped(lambda m, x, y: adv_lib.attacks.fmn(m, x, y, norm=inf, steps=100)),
        "Foolbox LInfFMNAttack, 1000": grouped(from_foolbox),
    }


def within(eps: float, decisions: int) -> dict[str, Run]:
    """Attacks within a radius. AutoAttack is its authors' package, or ours where there are too few decisions for it."""
    restarts = {"norm": "linf", "eps": eps, "steps": 100, "restarts": 20}
    return {
        AUTOATTACK: _package(eps) if decisions >= CLASSES else _bounded("autoattack", {"norm": "linf", "eps": eps}),
        "PGD, 20 steps": _bounded("pgd", {"norm": "linf", "eps": eps}),
        "PGD, 20 x 100 steps": _bounded("pgd", restarts),
        "PGD on the margin, 20 x 100 steps": _bounded("pgd", {**restarts, "loss": "margin"}),
    }


def _package(eps: float) -> Run:
    from pyautoattack import AutoAttack

    def attack(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        standard = AutoAttack(model, norm="Linf", eps=eps, seed=0, device=str(images.device))
        found: Tensor = standard.run_standard_evaluation(images, labels, batch_size=len(images))[0]
        return found

    return grouped(attack)


def _bounded(name: str, settings: dict[str, object]) -> Run:
    attack: Bounded = type(protocol(name).attack)(parse(protocol(name).attack.Settings, settings, name))  # type: ignore[assignment]

    def run(classifier: nn.Module, groups: Tensor, images: Tensor, labels: Tensor) -> Tensor:
        return attack.run(classifier, images, labels, groups=groups).adversarials

    return run


def report(victims: Sequence[Victim], figure: Path) -> Iterator[str]:
    """Markdown: norms and decisions of each model; and the curves as a figure."""
    drawn: dict[str, tuple[Tensor, dict[float, float]]] = {}
    for victim in victims:
        found = {name: _run(run, victim) for name, run in searches().items()}
        norms = {name: record.norm for name, record in found.items()}
        bounded = {
            eps: {name: _run(run, victim) for name, run in within(eps / 255, len(set(victim.groups.tolist()))).items()}
            for eps in EPS[victim.name]
        }
        best = torch.stack(list(norms.values())).amin(0)
        yield f"### {victim.name}: {len(best)} images\n\n" + markdown(
            NORM_HEADINGS, [_norm_row(name, record, best, found[OURS]) for name, record in found.items()]
        )
        yield markdown(
            EPS_HEADINGS,
            [
                row
                for eps, records in bounded.items()
                for row in _eps_rows(eps, {OURS: found[OURS], FMN: found[FMN], **records}, found[OURS])
            ],
        )
        points = {eps: float(_holds(records[AUTOATTACK], eps).double().mean()) for eps, records in bounded.items()}
        drawn[victim.name] = norms[OURS], points
    _draw(drawn, figure)


def _run(run: Run, victim: Victim) -> Record:
    passes, cost, norms = Passes(), Cost(), []
    metered = Metered(victim.classifier, passes)
    for images, labels in zip(torch.split(victim.images, BATCH), torch.split(victim.labels, BATCH), strict=True):
        torch.manual_seed(0)
        found = cost.measure(partial(run, metered, victim.groups, images, labels)).detach().float()
        with torch.no_grad():
            flipped = victim.groups[victim.classifier(found).argmax(1)] != labels
        inside = (found.amin((1, 2, 3)) >= -1e-6) & (found.amax((1, 2, 3)) <= 1 + 1e-6)
        norms.append(linf_norm((found - images).double()).masked_fill(~(flipped & inside), inf))
    return Record(torch.cat(norms), passes, cost)


def _holds(record: Record, eps: float) -> Tensor:
    return record.norm > eps / 255 + ROUNDING


def _norm_row(name: str, record: Record, best: Tensor, curve: Record) -> Sequence[str]:
    found, count = record.norm.isfinite(), len(best)
    ratio = record.norm[found] / best[found]
    return (
        name,
        f"{255 * record.norm[found].mean():.3f}",
        f"{ratio.mean():.3f}",
        f"{ratio.quantile(0.9):.3f}",
        f"{ratio.max():.3f}",
        f"{100 * found.double().mean():.0f} %",
        f"{record.passes.with_gradient / count:.0f}",
        f"{(record.passes.forwards - record.passes.with_gradient) / count:.0f}",
        f"{record.cost.seconds / curve.cost.seconds:.2f}",
    )


def _eps_rows(eps: float, records: dict[str, Record], curve: Record) -> list[Sequence[str]]:
    """One row per attack: which images hold, how it differs from linf-curve, and its cost in linf-curve's."""
    rows: list[Sequence[str]] = []
    ours_holds, total = _holds(curve, eps), len(curve.norm)
    for name, record in records.items():
        holds = _holds(record, eps)
        rows.append(
            (
                f"{eps:g}",
                name,
                f"{int(holds.sum())} of {total}",
                str(int((ours_holds & ~holds).sum())),
                str(int((holds & ~ours_holds).sum())),
                f"{record.passes.forwards / curve.passes.forwards:.1f}",
                f"{record.cost.seconds / curve.cost.seconds:.1f}",
            )
        )
    return rows


def _draw(drawn: dict[str, tuple[Tensor, dict[float, float]]], path: Path) -> None:
    figure, axes = plt.subplots(figsize=(6.4, 4.2), layout="constrained")
    for name, (norms, points) in drawn.items():
        order = norms.sort().values.clamp(max=1) * 255
        shares = 1 - torch.arange(1, len(order) + 1) / len(order)
        (line,) = axes.step([0, *order.tolist()], [1, *shares.tolist()], where="post", label=name, linewidth=1.5)
        axes.plot(
            list(points), list(points.values()), "o", color=line.get_color(), markersize=7, markerfacecolor="none"
        )
    axes.plot([], [], "o", color="0.4", markerfacecolor="none", label="AutoAttack, run at this eps alone")
    axes.set(
        xscale="symlog",
        xlim=(0, 64),
        ylim=(0, 1.02),
        xlabel="eps / 255 (linf)",
        ylabel="share of right decisions that hold",
    )
    axes.set_xticks([0, 0.5, 1, 2, 4, 8, 16, 32, 64], ["0", "0.5", "1", "2", "4", "8", "16", "32", "64"])
    figure.legend(frameon=False, fontsize=8, loc="outside lower center", ncols=3)
    save(figure, path)
