"""Every comparison that the verdict of a study rests on: areas with their controls, trends, geometry."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from advalign.analysis.guidance.measured import (
    AREA,
    CLASS_CODE,
    DEGRADED,
    FIT,
    GEOMETRY,
    NONE,
    SHUFFLED,
    WITHIN,
    Results,
    tolerances,
)
from advalign.analysis.guidance.statistics import (
    NAN,
    Difference,
    Partial,
    Trend,
    hierarchical_difference,
    partial_rank_correlation,
    trend,
)
from advalign.analysis.statistics import holm
from advalign.averages import sem

CODE, SHUFFLE, ACCURACY = "class code", "shuffle", "accuracy"
CONTROLS = (CODE, SHUFFLE, ACCURACY)
"""What an area must beat, all together: a class code, its own responses shuffled, unguided training as accurate."""
BESIDE = {"unguided": NONE, "shuffle within class": WITHIN}
"""Told beside them: whether guidance changes anything, and whether single images matter beyond their class."""
LARGEST_GAP = 0.03  # in accuracy, of a training that is called as accurate
ORDERED = (AREA, SHUFFLED, DEGRADED)


@dataclass(frozen=True)
class Compared:
    """One arm against one of its controls.

    Attributes:
        area: whose.
        arm: the name of the arm.
        against: of `CONTROLS` or `BESIDE`.
        found: the difference; its p is uncorrected.
        p_holm: Holm's correction over the areas and `CONTROLS` of a norm; NaN for others.
        gap: mean accuracy of the control minus the arm's; NaN where unknown.
        lacking: why there is no comparison; "" where there is one.
    """

    area: str
    arm: str
    against: str
    found: Difference
    p_holm: float
    gap: float
    lacking: str = ""

    @property
    def sign(self) -> int:
        """1 where the arm is above its control, -1 where below, 0 where neither is shown (Holm, interval)."""
        p = self.found.p if math.isnan(self.p_holm) else self.p_holm
        if not p < 0.05:
            return 0
        return 1 if self.found.low > 0 else -1 if self.found.high < 0 else 0


def compared(results: Results, norm: str, resamples: int, seed: int) -> list[Compared]:
    """Every area against its controls, in one norm.

    Args:
        results: of the study.
        norm: "l2" or "linf".
        resamples, seed: of the intervals.
    """
    found = []
    for area in results.areas:
        arm = results.find(AREA, area)
        if arm is None:
            continue
        found += [_compared(results, area, arm, against, norm, resamples, seed) for against in (*CONTROLS, *BESIDE)]
    judged = [one for one in found if one.against in CONTROLS]
    corrected = dict(zip(map(id, judged), holm([one.found.p for one in judged]), strict=True))
    return [_with_p(one, float(corrected.get(id(one), NAN))) for one in found]


def shuffles_against_accuracy(results: Results, norm: str, resamples: int, seed: int) -> list[Compared]:
    """Shuffled targets against unguided training as accurate: above it, guidance helps without its content."""
    found = []
    for area in results.areas:
        arm = results.find(SHUFFLED, area)
        if arm is not None:
            found.append(_compared(results, area, arm, ACCURACY, norm, resamples, seed))
    corrected = holm([one.found.p for one in found])
    return [_with_p(one, float(p)) for one, p in zip(found, corrected, strict=True)]


def _with_p(one: Compared, p: float) -> Compared:
    return Compared(one.area, one.arm, one.against, one.found, p, one.gap, one.lacking)


def _compared(results: Results, area: str, arm: str, against: str, norm: str, resamples: int, seed: int) -> Compared:
    nothing = Difference(NAN, NAN, NAN, NAN, 0, NAN)
    other: str | list[str] | None
    if against == ACCURACY:
        other, gaps = results.matched(arm)
        known = gaps[~np.isnan(gaps)]
        if not len(known) or "" in other:
            return Compared(area, arm, against, nothing, NAN, NAN, "no unguided training is in the study")
        gap = float(known.mean())
        if np.abs(known).mean() > LARGEST_GAP:
            told = f"no unguided training is as accurate (the nearest differs by {np.abs(known).mean():.3f})"
            return Compared(area, arm, against, nothing, NAN, gap, told)
    else:
        roles = {
            CODE: (CLASS_CODE, ""),
            SHUFFLE: (SHUFFLED, area),
            "unguided": (NONE, ""),
            "shuffle within class": (WITHIN, area),
        }
        other = results.find(*roles[against])
        if other is None:
            return Compared(area, arm, against, nothing, NAN, NAN, f"no {against} is in the study")
        gap = float(np.nanmean(results.values(other, "accuracy") - results.values(arm, "accuracy")))
    first, second = (results.of_images(one, norm) for one in (arm, other))
    found = hierarchical_difference(first, second, resamples, seed=seed)
    return Compared(area, arm, against, found, NAN, gap, found.note)


def trends(results: Results, norm: str) -> dict[str, Trend]:
    """Page's test over the ordered areas: of the areas (`AREA`), of their shuffles and of the degraded areas.

    Tolerances are over the images that the arms of all areas get right in a block, so that no area is judged on easier
    ones. A kind of arm of which an area is missing is left out.
    """
    found = {}
    for role in ORDERED:
        arms = [arm for area in results.areas if (arm := results.find(role, area)) is not None]
        if arms and len(arms) == len(results.areas):
            table = tolerances(results, norm, arms)[0]
            wide = table.pivot(index=["subject", "seed"], columns="arm", values="tolerance")
            found[role] = trend(wide[arms].to_numpy(float))
    return found


def geometry_links(results: Results, norm: str, resamples: int, seed: int) -> dict[str, Partial]:
    """Geometry against tolerance over models at equal accuracy: capacity, radius, ... -> partial rank correlation.

    A model is an arm with one subject, averaged over its seeds: two seeds of one arm are no two models.
    """
    columns = [name for name in results.models if str(name).partition("@")[0] in GEOMETRY]
    mean = means(results, norm)
    return {
        str(name): partial_rank_correlation(
            mean[name], mean["tolerance"], mean["accuracy"], resamples, seed=seed
        )
        for name in columns
    }  # fmt: skip


def means(results: Results, norm: str) -> pd.DataFrame:
    """A row per arm and subject: means over seeds of every number, tolerance and its standard error over seeds."""
    table = tolerances(results, norm)[0]
    rows = []
    for (arm, subject), own in results.models.groupby(["arm", "subject"], sort=False):
        first = own.iloc[0]
        mine = table[table["arm"] == arm]
        mine = mine if not subject else mine[mine["subject"] == subject]
        per_seed = mine.groupby("seed")["tolerance"].mean().dropna()
        row: dict[str, Any] = {"arm": arm, "role": first["role"], "area": first["area"], "subject": subject}
        row |= {"seeds": len(own), "images": float(mine["images"].mean())}
        row |= {"tolerance": float(per_seed.mean()) if len(per_seed) else NAN, "tolerance_sem": sem(per_seed)}
        numbers = own.drop(columns=["arm", "role", "area", "subject", "seed"])
        row |= {str(name): float(numbers[name].mean()) for name in numbers}
        row |= {f"{name}_sem": sem(own[name]) for name in ("accuracy", *FIT) if name in own}
        rows.append(row)
    return pd.DataFrame(rows)
