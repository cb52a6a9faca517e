"""Errors under corruption beside those of a named model: a table, and a heat map of the differences.

The authors' mCE divides the errors under each corruption by those of an AlexNet on ImageNet-C. CIFAR-10-C has no such
reference, so `relative` is that mean of quotients against a model that is named beside it.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from advalign.analysis.evaluated import each_protocol
from advalign.analysis.plots import Axis, Cells, Panel, Plot
from advalign.analysis.statistics import paired
from advalign.averages import bootstrap_interval
from advalign.data.results import Paths, read_rows
from advalign.errors import unknown_name
from advalign.files import Project
from advalign.metrics.corruption_error import ALL, CLEAN, HEADLINE, NAME, benchmark_members, errors
from advalign.settings import Settings
from advalign.tensors.corruptions.constants import NAMES

PROBE = "corruptions"
COLUMNS = [
    "protocol", "model", "clean_error", "error", *benchmark_members(), "error_19", "against", "change", "change_low",
    "change_high", "p", "relative",
]  # fmt: skip
LEAST_LIMIT = 0.05  # difference from which on colours are full, where all are smaller


@dataclass(frozen=True)
class Corrupted:
    """One model under one protocol.

    Attributes:
        protocol, model, baseline: names; baseline "" where the model has none, or is its own.
        numbers: of the summary.
        errors: (N, 19, 5), 1 where the model is wrong (`metrics.corruption_error.errors`).
    """

    protocol: str
    model: str
    baseline: str
    numbers: dict[str, float]
    errors: NDArray[np.float64]


def relative_error(found: NDArray[np.float64], reference: NDArray[np.float64]) -> float:
    """Mean over the 15 corruptions of the quotient of summed errors (Hendrycks and Dietterich 2019, section 4.2).

    Args:
        found, reference: (19, 5) errors by corruption and severity, of a model and of the one that it is divided by.

    Returns:
        1 for the reference itself; NaN where the reference is never wrong under some corruption.
    """
    sums, divisors = found[HEADLINE].sum(1), reference[HEADLINE].sum(1)
    return float((sums / divisors).mean()) if (divisors > 0).all() else math.nan


def corrupted_models(project: Project, settings: Settings) -> list[Corrupted]:
    """Every evaluation under a protocol of `evaluate.protocol` and `evaluate.also` that has the probe `corruptions`.

    Raises:
        InputError: no model is evaluated under one of these protocols.
        Damaged, CheckFailed: a result is damaged, or its numbers are not those of its rows.
    """
    found = []
    for one, measured in each_protocol(project, settings.evaluate, lambda one: one.spec.probe == PROBE):
        for summary in measured.summaries:
            name = one.name
            model, baseline = summary["model"], summary["baseline"] or ""
            rows = read_rows(Paths(project.evaluations / name, model).rows)
            other = "" if baseline == model else baseline
            found.append(Corrupted(name, model, other, summary["metrics"], errors(rows)))
    return found


def corruption_table(found: list[Corrupted], settings: Settings, against: str | None = None) -> pd.DataFrame:
    """A row per protocol and model with the columns `COLUMNS`; NaN where there is nothing to compare with.

    Args:
        found: see `corrupted_models`.
        settings: seed and resamples of the intervals.
        against: name of the model that all are compared with; None: each model with its own baseline.

    Returns:
        Errors are shares. `change` is that of `error` against the named model over the same images, with a BCa interval
        and the p of a paired t test; `relative` is `relative_error`.

    Raises:
        InputError: no model of that name is among them.
    """
    pairs = {id(one): other for one, other in _pairs(found, against)}
    rows: list[dict[str, Any]] = []
    for one in found:
        row = {
            "protocol": one.protocol,
            "model": one.model,
            "clean_error": one.numbers[CLEAN],
            "error": one.numbers[NAME],
            "error_19": one.numbers[ALL],
            **{family: one.numbers[f"{NAME}.{family}"] for family in benchmark_members()},
        }
        if other := pairs.get(id(one)):
            row |= {"against": other.model, **_change(one, other, settings)}
        rows.append(row)
    return pd.DataFrame(rows, columns=COLUMNS)


def corruption_heat_map(found: list[Corrupted], against: str | None = None) -> Plot:
    """Error of each model minus that of the model it is compared with, by corruption and severity.

    Args, Raises: as `corruption_table`.
    """
    title = f"Errors under corruption: difference to {against or 'the standard twin'}"
    panels, largest = [], LEAST_LIMIT
    for one, other in _pairs(found, against):
        differences = one.errors.mean(0) - other.errors.mean(0)
        largest = max(largest, float(np.abs(differences).max()))
        under = f"\n({one.protocol})" if len({each.protocol for each in found}) > 1 else ""
        panels.append((f"{one.model}\nminus {other.model}{under}", differences))
    if not panels:
        return Plot(title, "No model has been evaluated under corruptions together with the model to compare it with.")
    names = [name.replace("_", " ") for name in NAMES]
    return Plot(
        title,
        "in hundredths of the images: red where the model is wrong more often, blue where it is wrong less often",
        [
            Panel(
                Axis(f"severity\n{label}"),
                Axis("", ticks=[""] * len(names)) if place else Axis("corruption", ticks=names),
                [Cells(differences, [[_hundredths(one) for one in row] for row in differences], largest, 1)],
            )
            for place, (label, differences) in enumerate(panels)
        ],
        notes=["The last four corruptions are not among the 15 of the benchmark."],
        size=(2.0 + 3.0 * len(panels), 6.8),
    )


def _hundredths(difference: float) -> str:
    rounded = round(100 * difference)
    return f"{rounded:+d}" if rounded else "0"


def _pairs(found: list[Corrupted], against: str | None) -> Iterator[tuple[Corrupted, Corrupted]]:
    """Every model with the one that it is compared with, under the same protocol."""
    known = {(one.protocol, one.model): one for one in found}
    if against is not None and against not in {one.model for one in found}:
        raise unknown_name("model", against, sorted({one.model for one in found}))
    for one in found:
        other = known.get((one.protocol, against or one.baseline))
        if other is not None and other is not one:
            yield one, other


def _change(one: Corrupted, other: Corrupted, settings: Settings) -> dict[str, float]:
    first, second = (each.errors[:, HEADLINE].mean((1, 2)) for each in (one, other))
    interval = bootstrap_interval(first - second, settings.compare.bootstrap, seed=settings.seed)
    return {
        "change": float((first - second).mean()),
        "change_low": interval.low,
        "change_high": interval.high,
        "p": paired(first, second).p,
        "relative": relative_error(one.errors.mean(0), other.errors.mean(0)),
    }
