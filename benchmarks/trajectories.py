"""How two searches get to where they end: norm and margin of every point that they ask about, pass by pass.

Drawn for the images on which the default budget ends farthest above the thorough one: where a search can go wrong.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from matplotlib.axes import Axes
from torch import Tensor

from advalign.analysis.drawing import save
from advalign.attacks._oracle import margins
from advalign.evaluation.protocols import protocol
from advalign.models.stand_in import stand_in
from advalign.tensors.norms import l2_norm
from benchmarks._victims import Victim
from benchmarks.attacks import markdown
from benchmarks.panel import DEFAULT, REFERENCE, attacked

SHOWN = 5
THOROUGH = "fmn-fast-thorough"
COLOURS = {REFERENCE: "0.55", DEFAULT: "tab:blue", THOROUGH: "tab:orange"}


@dataclass
class Trajectory:
    """Of one search on one image: l2 norm and margin (in logits) of every point asked with a gradient."""

    norms: list[float] = field(default_factory=list)
    margins: list[float] = field(default_factory=list)

    @property
    def best(self) -> list[float]:
        """The smallest adversarial norm so far, pass by pass; infinite before the first."""
        adversarial = torch.tensor(self.norms).masked_fill(torch.tensor(self.margins) >= 0, torch.inf)
        found: list[float] = adversarial.cummin(0).values.tolist()
        return found


def follow(victim: Victim, image: int, name: str) -> Trajectory:
    """Run a protocol on one image and write down what it asks."""
    pixels, label = victim.images[image : image + 1], victim.labels[image : image + 1]
    own = victim.groups[None] == label[:, None]
    found = Trajectory()
    model = stand_in(victim.classifier, victim.images[:8], "float32")

    def watched(points: Tensor) -> Tensor:
        logits: Tensor = model(points)
        if points.requires_grad:
            plain = logits.detach()
            found.norms += l2_norm(points.detach() - pixels).tolist()
            found.margins += margins(plain, own.expand(len(plain), -1)).tolist()
        return logits

    protocol(name).attack.run(watched, pixels, label, groups=victim.groups, batch_size=1)
    return found


def report(victim: Victim | None, count: int, path: Path) -> Iterator[str]:
    """The figure, and a table of the images in it."""
    if victim is None:
        yield "The real model is not at hand (shared/reference/real beside the project).\n"
        return
    few = victim.first(count)
    ratio = attacked(few, DEFAULT)[0] / attacked(few, THOROUGH)[0]
    worst = ratio.argsort(descending=True)[:SHOWN].tolist()
    followed = {image: {name: follow(few, image, name) for name in COLOURS} for image in worst}
    _draw(followed, path)
    ends = [[trajectories[name].best[-1] for name in COLOURS] for trajectories in followed.values()]
    rows = [(f"{image}", *(f"{end:.4f}" for end in found)) for image, found in zip(followed, ends, strict=True)]
    yield markdown(("image", *COLOURS), rows)


def _draw(followed: dict[int, dict[str, Trajectory]], path: Path) -> None:
    figure, axes = plt.subplots(2, len(followed), figsize=(3 * len(followed), 5), layout="constrained", sharex=True)
    for (image, trajectories), (above, below) in zip(followed.items(), axes.T, strict=True):
        for name, trajectory in trajectories.items():
            passes = range(1, len(trajectory.norms) + 1)
            style = {"color": COLOURS[name], "linewidth": 1.4, "label": name}
            above.plot(passes, trajectory.best, **style)
            below.plot(passes, trajectory.margins, **style | {"linewidth": 0.8})
        _label(above, below, f"image {image}", min(trajectory.best[-1] for trajectory in trajectories.values()))
    axes[0, 0].set_ylabel("smallest norm so far")
    axes[1, 0].set_ylabel("margin of the point (logits)")
    axes[0, 0].legend(frameon=False, fontsize=8)
    save(figure, path)


def _label(above: Axes, below: Axes, title: str, least: float) -> None:
    above.set(title=title, xscale="log", ylim=(0.95 * least, 2 * least))
    below.set(xlabel="passes with gradient", yscale="symlog")
    below.axhline(0, color="0.8", linewidth=0.8)
