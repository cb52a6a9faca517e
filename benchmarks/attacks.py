"""Minimum-norm attacks side by side: the same images, one process, taking turns batch by batch.

Norms, success and passes are measured here, outside the attacks: a point counts only where the float32 model's
decision is wrong, and passes are counted at the model.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor

from advalign.tensors.norms import l2_norm
from benchmarks._peers import FOOLBOX, Run, ours, peers
from benchmarks._timing import Cost
from benchmarks._victims import Metered, Passes, Victim

REFERENCE, OURS, RELEASED = "fmn (1000)", "**fmn-fast (100)**", "feng2025-released"
REAL_PEERS = (FOOLBOX,)
WHOLE_SET = (OURS, RELEASED)
BATCH = 24
NO_LARGER = 1.005
HEADINGS = (
    "attack", "mean", "median", "p90", "not larger", "success", "passes", "forward only", "time", "memory",
)  # fmt: skip


@dataclass
class Record:
    """What one attack did to one victim."""

    norms: list[Tensor] = field(default_factory=list)
    cost: Cost = field(default_factory=Cost)
    passes: Passes = field(default_factory=Passes)

    @property
    def norm(self) -> Tensor:
        """(N,) l2 norms, infinite where the attack failed."""
        return torch.cat(self.norms)


def own_attacks() -> dict[str, Run]:
    """Ours, the reference first."""
    return {
        REFERENCE: ours("fmn"),
        "fmn-100": ours("fmn-100"),
        "fmn-fast-fast (50)": ours("fmn-fast-fast"),
        OURS: ours("fmn-fast"),
        "fmn-fast-thorough (200)": ours("fmn-fast-thorough"),
        RELEASED: ours("feng2025-released"),
    }


def run_on(victim: Victim, attacks: dict[str, Run]) -> dict[str, Record]:
    """Every attack on every image, taking turns batch by batch; the order is reversed in every second batch."""
    records = {name: Record() for name in attacks}
    batches = zip(torch.split(victim.images, BATCH), torch.split(victim.labels, BATCH), strict=True)
    for turn, (images, labels) in enumerate(batches):
        for name in list(attacks)[:: 1 if turn % 2 == 0 else -1]:
            record = records[name]
            metered = Metered(victim.classifier, record.passes)
            work = partial(attacks[name], metered, victim.groups, images, labels)
            record.norms.append(_norms(victim, images, labels, record.cost.measure(work)))
    return records


@torch.no_grad()
def _norms(victim: Victim, images: Tensor, labels: Tensor, found: Tensor) -> Tensor:
    found = found.detach().float()
    flipped = victim.groups[victim.classifier(found).argmax(1)] != labels
    inside = (found.amin((1, 2, 3)) >= -1e-6) & (found.amax((1, 2, 3)) <= 1 + 1e-6)
    return l2_norm((found - images).double()).masked_fill(~(flipped & inside), torch.inf)


def table(records: dict[str, Record]) -> list[Sequence[str]]:
    """One row per attack; norms, time and memory relative to the reference, over images that both flipped."""
    reference = records[REFERENCE]
    rows: list[Sequence[str]] = []
    for name, record in records.items():
        both = record.norm.isfinite() & reference.norm.isfinite()
        one, other = record.norm[both], reference.norm[both]
        count, passes = len(record.norm), record.passes
        rows.append(
            (
                name,
                f"{one.mean() / other.mean():.3f}",
                f"{one.median() / other.median():.3f}",
                f"{one.quantile(0.9) / other.quantile(0.9):.3f}",
                f"{100 * (one <= NO_LARGER * other).double().mean():.0f} %",
                f"{100 * record.norm.isfinite().double().mean():.1f} %",
                f"{passes.with_gradient / count:.1f}",
                f"{(passes.forwards - passes.with_gradient) / count:.1f}",
                f"{record.cost.seconds / reference.cost.seconds:.4f}",
                f"{record.cost.memory / reference.cost.memory:.2f}",
            )
        )
    return rows


def report(victims: list[Victim]) -> Iterator[str]:
    """Markdown: a table per model, and all of them pooled."""
    attacks = own_attacks() | peers()
    found = []
    for victim in victims:
        found.append(run_on(victim, attacks))
        yield _section(victim, found[-1])
    yield "### Pooled: mean over all images of the norm, relative to the model's mean under fmn\n"
    yield markdown(("attack", "pooled", "largest of a model", "time"), _pooled(found))


def report_real(real: Victim | None, count: int) -> Iterator[str]:
    """The real model: few images and peers for the slow comparison, all images for ours and the released protocol."""
    if real is None:
        yield "The real model is not at hand (shared/reference/real beside the project).\n"
        return
    few = own_attacks() | {name: run for name, run in peers().items() if name in REAL_PEERS}
    yield _section(real.first(count), run_on(real.first(count), few))
    whole = run_on(real, {name: own_attacks()[name] for name in WHOLE_SET})
    yield f"All {len(real.images)} images that {real.name} gets right:\n"
    yield markdown(("attack", "mean norm", "median", "success"), [_plain(name, r) for name, r in whole.items()])


def _section(victim: Victim, records: dict[str, Record]) -> str:
    norm = records[REFERENCE].norm
    head = f"### {victim.name}: {len(norm)} images, mean norm of fmn {norm[norm.isfinite()].mean():.4f}\n\n"
    return head + markdown(HEADINGS, table(records))


def _plain(name: str, record: Record) -> Sequence[str]:
    norm = record.norm[record.norm.isfinite()]
    return name, f"{norm.mean():.4f}", f"{norm.median():.4f}", f"{100 * len(norm) / len(record.norm):.1f} %"


def _pooled(found: list[dict[str, Record]]) -> list[Sequence[str]]:
    rows: list[Sequence[str]] = []
    for name in own_attacks():
        relative, seconds = [], [0.0, 0.0]
        for records in found:
            one, other = records[name], records[REFERENCE]
            both = one.norm.isfinite() & other.norm.isfinite()
            relative.append(one.norm[both] / other.norm[both].mean())
            seconds = [seconds[0] + one.cost.seconds, seconds[1] + other.cost.seconds]
        largest = max(float(norms.mean()) for norms in relative)
        rows.append((name, f"{torch.cat(relative).mean():.4f}", f"{largest:.4f}", f"1/{seconds[1] / seconds[0]:.1f}"))
    return rows


def markdown(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table."""
    lines = [headings, tuple("---" for _ in headings), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines) + "\n"
