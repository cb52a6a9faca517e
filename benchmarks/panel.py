"""Norms of the default attack on panels of networks, relative to FMN with a thousand passes and to the best known.

The *development* panel is what the search was chosen on. The *test* panel holds other kinds of architecture: nothing
was chosen on it, and nothing may be. Who changes the search looks at it last.

The best known norm of an image is the least over all attacks and budgets here: an upper bound of the minimum.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from advalign.attacks.base import AttackResult
from advalign.evaluation.protocols import protocol
from advalign.files import Project
from advalign.models.stand_in import stand_in
from advalign.rows import AGREE
from advalign.settings import Training
from benchmarks._victims import Victim, cifar_victims, real_victim, sample_victims, trained_victim
from benchmarks.attacks import BATCH, markdown

REFERENCE, DEFAULT = "fmn", "fmn-fast"
PROTOCOLS = (REFERENCE, "fmn-100", "fmn-200", "fmn-fast-fast", DEFAULT, "fmn-fast-thorough")
NEAR = 1.05  # of the best known norm
HEADINGS = ("attack", "mean", "median", "p90", "worst", "within 5 %", "passes", "starts agree")
SCHEDULE = {"learning_rate": 2e-3, "epochs": 16}
TEST = (
    Training(model="test_vit2", recipe="baseline", arguments={"patch_size": 8}),
    Training(model="test_convnext2", recipe="baseline"),
    Training(model="test_efficientnet_gn", recipe="baseline"),  # depthwise, group norm in place of batch norm
    Training(model="test_nfnet", recipe="baseline"),  # GELU, no norm
    Training(model="mobilenetv3_small_050", recipe="baseline"),  # hard-swish and hard-sigmoid
)


def development(project: Project, count: int) -> Iterator[str]:
    """The sample's networks and two of ImageNet."""
    real = [real_victim(project, name) for name in ("mobilenetv2_100", "tf_efficientnet_lite0")]
    yield from _report([*sample_victims(project, count), *(victim for victim in real if victim is not None)], count)


def test(project: Project, count: int) -> Iterator[str]:
    """Networks of other kinds, trained on the sample, and two of CIFAR-10: a residual one and a robust one."""
    yield from _report(
        [*(trained_victim(project, one, SCHEDULE, count) for one in TEST), *cifar_victims(project)], count
    )


def _report(victims: list[Victim], count: int) -> Iterator[str]:
    agreeing, others = [], []
    for victim in victims:
        few = victim.first(count)
        results = {name: attacked(few, name) for name in PROTOCOLS}
        norms = {name: norm for name, (norm, _, _) in results.items()}
        best = torch.stack(list(norms.values())).amin(0)
        near = norms[DEFAULT] <= NEAR * best
        agree = results[DEFAULT][2] <= AGREE
        agreeing.append(near[agree])
        others.append(near[~agree])
        rows = [_row(name, norms, best, passes, second) for name, (_, passes, second) in results.items()]
        head = f"### {victim.name}: {len(best)} images, mean norm of fmn {norms[REFERENCE].mean():.4f}\n\n"
        yield head + markdown(HEADINGS, rows)
    found = [torch.cat(parts).double() for parts in (agreeing, others)]
    yield (
        f"{DEFAULT}: where the two best starts agree ({len(found[0])} images) {100 * found[0].mean():.0f} % lie within "
        f"5 % of the best known norm, elsewhere ({len(found[1])} images) {100 * found[1].mean():.0f} %.\n"
    )


def attacked(victim: Victim, name: str) -> tuple[Tensor, Tensor, Tensor]:
    """Norms, infinite where the attack failed; passes; norms of the second best starts relative to the best."""
    attack = protocol(name).attack
    search = stand_in(victim.classifier, victim.images[:8], "float32") if attack.uses_stand_in else None
    parts: list[AttackResult] = [
        attack.run(victim.classifier, images, labels, groups=victim.groups, search=search)
        for images, labels in zip(torch.split(victim.images, BATCH), torch.split(victim.labels, BATCH), strict=True)
    ]
    norms = torch.cat([part.norms for part in parts]).nan_to_num(torch.inf)
    return norms, torch.cat([part.queries for part in parts]), torch.cat([part.second_start for part in parts])


def _row(name: str, norms: dict[str, Tensor], best: Tensor, passes: Tensor, second: Tensor) -> Sequence[str]:
    both = norms[name].isfinite() & norms[REFERENCE].isfinite()
    one, other = norms[name][both], norms[REFERENCE][both]
    ratio = one / other
    agree = second[~second.isnan()] <= AGREE
    return (
        name,
        f"{one.mean() / other.mean():.3f}",
        f"{ratio.median():.3f}",
        f"{ratio.quantile(0.9):.3f}",
        f"{ratio.max():.3f}",
        f"{100 * (norms[name] <= NEAR * best).double().mean():.0f} %",
        f"{passes.double().mean():.0f}",
        f"{100 * agree.double().mean():.0f} %" if len(agree) else "",
    )
