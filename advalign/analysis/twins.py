"""A model against the baseline that it is compared with, image by image (docs/methods.md, section Twins)."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from advalign.analysis.statistics import holm, paired
from advalign.averages import bootstrap_interval, sem
from advalign.errors import InputError
from advalign.rows import OF_CEILING, STATUS, STIMULUS, Descriptor, Status, norm_of
from advalign.vocabulary import PAIRED, PLANE, in_norm


def find_twins(table: pd.DataFrame) -> list[tuple[str, str]]:
    """Pairs of (baseline, twin) among the models of a table: where its column `baseline` names another of its models.

    >>> models = ["resnet18.baseline", "resnet18.harmonized", "new"]
    >>> find_twins(pd.DataFrame({"model": models, "baseline": [None, "resnet18.baseline", "resnet50.baseline"]}))
    [('resnet18.baseline', 'resnet18.harmonized')]
    >>> find_twins(pd.DataFrame({"model": models}))
    []
    """
    if "baseline" not in table:
        return []
    names = set(table["model"])
    pairs = zip(table["baseline"], table["model"], strict=True)
    return sorted((baseline, twin) for baseline, twin in pairs if baseline in names and baseline != twin)


def paired_statistics(
    frames: Mapping[str, pd.DataFrame],
    pairs: Iterable[tuple[str, str]],
    *,
    seed: int,
    resamples: int = 10_000,
    ceiling: float | None = None,
    metrics: Iterable[str] = PAIRED,
) -> list[dict[str, Any]]:
    """Compare each twin with its baseline over the stimuli that both got right (status `ok` in both).

    Args:
        frames: Model -> its rows, one per stimulus, with the columns stimulus, status ("ok", "misclassified_clean" or
            "attack_failed"), norm_l2 or norm_linf (in the stimulus space, the same in all frames) and rho_released (in
            [-1, 1], nan where there is none); and where they are measured, the columns of further metrics.
        pairs: (baseline, twin) names.
        seed: Seed of the bootstrap, from the settings.
        resamples: Resamples of the BCa interval of the difference.
        ceiling: Human ceiling that AA is divided by; None leaves Spearman's rho as it is. Tests do not depend on it.
        metrics: Short names of the metrics that are tested (`vocabulary.PAIRED`).

    Returns:
        Two entries per pair, metrics "pt" and "aa", and one for each further metric that both have: means and SEM of
        both, difference (twin - baseline) with its 95 % interval, t, df, p, p_holm (over all entries of "pt" and "aa";
        and over all others, so that a further metric does not change the verdict on these), wilcoxon_p, d_z, n; nan
        with a note where not computable. Linf norms are in 1/255 there.

    Raises:
        InputError: A frame lacks a column or repeats a stimulus, or the frames come from more than one protocol.
    """
    wanted = list(pairs)
    judged = {name: frames[name] for pair in wanted for name in pair if name in frames}
    norm = next((norm for frame in judged.values() if (norm := norm_of(frame))), "l2")
    described = {metric: in_norm(metric, norm) for metric in metrics}
    protocol = _check_frames(judged, [STIMULUS, STATUS, *(str(described[metric].column) for metric in PLANE)])
    entries: list[dict[str, Any]] = []
    for baseline, twin in wanted:
        both = [frames.get(baseline, ()), frames.get(twin, ())]
        measured = {
            key: one for key, one in described.items() if key in PLANE or all(one.column in frame for frame in both)
        }
        shared = _shared(frames, baseline, twin, [str(one.column) for one in measured.values()])
        for metric, one in measured.items():
            names = {"baseline": baseline, "twin": twin, "metric": metric, "protocol": protocol}
            entries.append({**names, **_entry(shared, one, ceiling, seed, resamples)})
    _adjust(entries)
    return entries


def _adjust(entries: Sequence[dict[str, Any]]) -> None:
    """Set p_holm: over the metrics of the plane, and over all others."""
    for plane in (True, False):
        members = [entry for entry in entries if (entry["metric"] in PLANE) is plane]
        for entry, p in zip(members, holm([entry["p"] for entry in members]), strict=True):
            entry["p_holm"] = float(p)


def _check_frames(frames: Mapping[str, pd.DataFrame], columns: Sequence[str]) -> str | None:
    """Check the columns and stimuli of every frame and return their one protocol; None if no frame names one."""
    protocols: set[str] = set()
    for name, frame in frames.items():
        lacking = [column for column in columns if column not in frame]
        if lacking:
            raise InputError(f"evaluation of {name} lacks the columns {', '.join(lacking)}; evaluate it again")
        repeated = frame[STIMULUS][frame[STIMULUS].duplicated()]
        if len(repeated):
            raise InputError(f"evaluation of {name} has stimulus {repeated.iloc[0]} twice; evaluate it again")
        protocols |= {str(protocol) for protocol in frame["protocol"].dropna()} if "protocol" in frame else set()
    if len(protocols) > 1:
        found = ", ".join(sorted(protocols))
        raise InputError(f"twins were attacked by different protocols ({found}); compare evaluations of one protocol")
    return protocols.pop() if protocols else None


def _shared(frames: Mapping[str, pd.DataFrame], baseline: str, twin: str, columns: Sequence[str]) -> pd.DataFrame | str:
    """Rows of the stimuli that both models got right, columns suffixed _baseline and _twin; or why there are none."""
    absent = [name for name in (baseline, twin) if name not in frames]
    if absent:
        return f"{' and '.join(absent)} not evaluated"
    right = [frames[name].loc[frames[name][STATUS] == Status.OK] for name in (baseline, twin)]
    kept = [frame[[STIMULUS, *columns]] for frame in right]
    joined = kept[0].merge(kept[1], on=STIMULUS, suffixes=("_baseline", "_twin"))
    return joined.sort_values(STIMULUS)


def _entry(
    shared: pd.DataFrame | str, metric: Descriptor, ceiling: float | None, seed: int, resamples: int
) -> dict[str, Any]:
    """The tests of one metric over the stimuli that both models got right; or why there are none."""
    column, divided = str(metric.column), ceiling if metric.unit == OF_CEILING else None
    divisor = (divided or 1.0) / metric.scale
    if isinstance(shared, str):
        baseline = twin = pd.Series(dtype=float)
        notes = [shared]
    else:
        columns = [f"{column}_baseline", f"{column}_twin"]
        known = shared.dropna(subset=columns)
        baseline, twin = known[columns[0]] / divisor, known[columns[1]] / divisor
        left_out = len(shared) - len(known)
        notes = [f"{left_out} of {len(shared)} shared stimuli have no {column} and are left out"] if left_out else []
        if shared.empty:
            notes.append("no stimulus that both models got right")
    result = paired(twin, baseline)
    interval = bootstrap_interval(twin.to_numpy() - baseline.to_numpy(), resamples, seed=seed)
    if result.note and not (len(baseline) == 0 and notes):
        notes.append(result.note)
    return {
        "n": result.n,
        "baseline_mean": float(baseline.mean()),
        "baseline_sem": sem(baseline),
        "twin_mean": float(twin.mean()),
        "twin_sem": sem(twin),
        "difference": result.difference,
        "ci_low": interval.low,
        "ci_high": interval.high,
        "t": result.t,
        "df": result.df,
        "p": result.p,
        "p_holm": float("nan"),
        "wilcoxon_p": result.wilcoxon_p,
        "d_z": result.d_z,
        "note": "; ".join(notes) or None,
        "ceiling": divided,
    }
