"""Effect on norms of the search's precision, the batch size and the number of threads, and the time saved."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from advalign.evaluation.protocols import protocol
from advalign.models.stand_in import Precision, stand_in
from benchmarks._timing import Cost
from benchmarks._victims import Victim
from benchmarks.attacks import markdown


class Variant(NamedTuple):
    """How fmn-fast is run."""

    search: Precision | None = "float32"
    batch_size: int | None = None
    threads: int | None = None


VARIANTS = {
    "as evaluated (batch norms folded, float32)": Variant(),
    "again": Variant(),
    "search by the judge itself": Variant(search=None),
    "search in bfloat16": Variant(search="bfloat16"),
    "batches of 16": Variant(batch_size=16),
    "two threads": Variant(threads=2),
}


def report(victims: list[Victim]) -> Iterator[str]:
    """A row per variant, pooled over the models, relative to the first."""
    norms: dict[str, list[Tensor]] = {name: [] for name in VARIANTS}
    costs = {name: Cost() for name in VARIANTS}
    before = torch.get_num_threads()
    for victim in victims:
        for name, variant in VARIANTS.items():
            torch.set_num_threads(variant.threads or before)
            norms[name].append(costs[name].measure(_attack(victim, variant)))
    torch.set_num_threads(before)
    first = next(iter(VARIANTS))
    means = torch.cat([norm / norm.mean() for norm in norms[first]]).mean()
    rows = []
    for name in VARIANTS:
        pooled = torch.cat([one / base.mean() for one, base in zip(norms[name], norms[first], strict=True)])
        single = torch.cat(norms[name]) / torch.cat(norms[first])
        failed = int(single.isnan().sum())
        pooled, single = pooled[pooled.isfinite()], single[single.isfinite()]
        rows.append(
            (
                name,
                f"{100 * (pooled.mean() / means - 1):+.3f} %",
                f"{100 * (single - 1).abs().median():.3f} %",
                f"{100 * (single - 1).abs().quantile(0.95):.2f} %",
                f"{100 * (single - 1).abs().max():.1f} %",
                str(failed),
                f"{costs[name].seconds / costs[first].seconds:.2f}",
            )
        )
    yield markdown(("variant", "mean norm", "median change", "95 %", "largest change", "failed", "time"), rows)


def _attack(victim: Victim, variant: Variant) -> Callable[[], Tensor]:
    def work() -> Tensor:
        search = stand_in(victim.classifier, victim.images[:8], variant.search) if variant.search else None
        attack = protocol("fmn-fast").attack
        return attack.run(
            victim.classifier,
            victim.images,
            victim.labels,
            groups=victim.groups,
            search=search,
            batch_size=variant.batch_size,
        ).norms

    return work
