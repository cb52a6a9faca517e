"""The verdict on a promotion: the demands of a policy, compared with a version's evaluation.

Pure functions from evidence to a table of verdicts. Missing evidence fails its gate.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from advalign.analysis.pareto import beyond_front
from advalign.analysis.statistics import paired
from advalign.analysis.table import is_standard
from advalign.evaluation.protocols import Protocol, protocol
from advalign.inputs import Tracked
from advalign.rows import OF_CEILING, STATUS, STIMULUS, Status, norm_of
from advalign.settings import ProtocolSettings
from advalign.tracking.registry.policies import Bound, Demand, Demands, Policy
from advalign.vocabulary import PLANE, describe, in_norm

ROUNDING = 1e-9  # 0.80 - 0.78 is not 0.02 in binary


@dataclass(frozen=True)
class Evidence:
    """Evidence on one version under one protocol.

    Attributes:
        label: "NAME version 3".
        data: DVC digests of the data of its training and of its evaluation; None where unknown, or where the files were
            not those of the version.
        stimuli, protocol: digests of the stimulus set, and of the attack with its settings.
        setting: what must be the same of two models that are compared (`evaluation.summaries.setting_of`).
        flags: sanity flags, and what speaks against the images (`data.cifar.image_flags`).
        metrics: as logged; None where a metric could not be computed.
        rows: one per stimulus: stimulus, status, norm_l2 or norm_linf (stimulus space) and rho_released (in [-1, 1]).
        human_ceiling: divisor of alignment; None without human maps.
    """

    label: str
    data: tuple[str | None, str | None]
    stimuli: str
    protocol: str
    setting: Mapping[str, object]
    flags: tuple[str, ...]
    metrics: Mapping[str, float | None]
    rows: pd.DataFrame
    human_ceiling: float | None


@dataclass(frozen=True)
class Present:
    """data/ as it is now, by its content.

    Attributes:
        tracked: the version, and files of the evaluation that are not what it says.
        read: digest of the files that the evaluation stands on.
    """

    tracked: Tracked
    read: str


@dataclass(frozen=True)
class Case:
    """All evidence under one protocol.

    Attributes:
        candidate: the version to be promoted; None where it is not evaluated under the protocol.
        others: key of `against` -> its evidence, or why there is none; None: no version holds the alias yet.
        present: data/ as it is now; None where the candidate is not evaluated.
    """

    candidate: Evidence | None
    others: Mapping[str, Evidence | str | None]
    present: Present | None


@dataclass(frozen=True)
class Verdict:
    """Result of one gate: what was wanted, what was got, and whether the gate holds."""

    gate: str
    wanted: str
    got: str
    holds: bool


def judge(
    policy: Policy,
    case: Case,
    zoo: pd.DataFrame | str,
    also: Mapping[str, Case] | None = None,
    declared: Mapping[str, ProtocolSettings] | None = None,
) -> list[Verdict]:
    """Check every gate of a policy.

    Args:
        policy: of the alias.
        case: evidence under the policy's protocol.
        zoo: models evaluated under the same protocol on the same stimuli: columns model, group, pt, aa, without flagged
            ones and without other versions of the candidate; or a sentence why they cannot be read.
        also: protocol -> evidence under it, for every protocol of `policy.also`.
        declared: protocols of params.yaml, which a policy may name as well.

    Returns:
        Verdicts in the policy's order; a single one for a protocol that the candidate is not evaluated under.
    """
    own = protocol(policy.protocol, declared)
    verdicts = [_minimum_norm(own)] if policy.minimum_norm else []
    evaluated, found = _under(own, policy, policy, case)
    verdicts += found
    if evaluated is not None and policy.pareto_front:
        verdicts.append(_front(evaluated, zoo))
    for name, demands in policy.also.items():
        _, found = _under(protocol(name, declared), demands, policy, (also or {})[name])
        verdicts += [replace(verdict, gate=f"{verdict.gate} under {name}") for verdict in found]
    return verdicts


def _under(asked: Protocol, demands: Demands, policy: Policy, case: Case) -> tuple[Evidence | None, list[Verdict]]:
    """The candidate's evidence under a protocol, None where it is of none or of earlier settings, and the verdicts."""
    candidate = case.candidate
    if candidate is None or candidate.protocol != asked.sha256:
        got = "not evaluated under it" if candidate is None else "evaluated under earlier settings of it"
        return None, [Verdict("evaluation", f"under {asked.name}", got, False)]
    verdicts = []
    if policy.current_data:
        assert case.present is not None
        verdicts.append(_current_data(candidate, case.present))
    if policy.no_flags:
        verdicts.append(Verdict("sanity flags", "none", ", ".join(candidate.flags) or "none", not candidate.flags))
    verdicts += [_bound(metric, bound, candidate) for metric, bound in demands.bounds.items()]
    for key, compared in demands.against.items():
        verdicts += _against(key, case.others[key], compared, candidate, policy.p)
    return candidate, verdicts


def _minimum_norm(own: Protocol) -> Verdict:
    found = f"{own.name}, whose norms are not the smallest" if own.spec.attack else f"{own.name}, which attacks nothing"
    got = own.name if own.minimum_norm else found
    return Verdict("protocol", "searches for minimum norms", got, own.minimum_norm)


def _current_data(candidate: Evidence, present: Present) -> Verdict:
    trained, evaluated = candidate.data
    current, same = present.tracked.md5, candidate.setting["data_sha256"] == present.read
    got = f"trained on {_short(trained)}, evaluated on {_short(evaluated)}"
    if {*candidate.data} == {current} and present.tracked.changed:
        got = present.tracked.warning.partition(":")[0]
    elif {*candidate.data} == {current} and not same:
        got = "the evaluation read other files than data/ holds now"
    holds = current is not None and {*candidate.data} == {present.tracked.used} and same
    return Verdict("data", f"{_short(current)}, as data.dvc says", got, holds)


def _short(md5: str | None) -> str:
    return "data that is not tracked" if md5 is None else md5[:8]


def _bound(metric: str, bound: Bound, candidate: Evidence) -> Verdict:
    value = candidate.metrics.get(metric)
    parts = [f"at least {bound.at_least:g}"] if bound.at_least is not None else []
    parts += [f"at most {bound.at_most:g}"] if bound.at_most is not None else []
    low = -math.inf if bound.at_least is None else bound.at_least
    high = math.inf if bound.at_most is None else bound.at_most
    holds = value is not None and low <= value <= high
    return Verdict(metric, " and ".join(parts), "not measured" if value is None else f"{value:.4g}", holds)


def _against(
    key: str, other: Evidence | str | None, demands: Mapping[str, Demand], candidate: Evidence, p: float
) -> list[Verdict]:
    gate, wanted = f"against {key}", "the same stimuli and attack"
    if other is None:
        return [Verdict(gate, wanted, "nobody holds the alias yet", True)]
    if isinstance(other, str):
        return [Verdict(gate, wanted, other, False)]
    if other.setting != candidate.setting:
        got = f"{other.label} was evaluated on other stimuli, data or ceiling, or otherwise attacked"
        return [Verdict(gate, wanted, got, False)]
    verdicts = []
    for metric, demand in demands.items():
        gate = f"{metric} against {key}"
        if demand.better_by is not None:
            verdicts.append(_better(gate, metric, demand.better_by, candidate, other, p))
        if demand.not_below is not None:
            verdicts.append(_not_below(gate, metric, demand.not_below, candidate, other, p))
        if demand.drop_at_most is not None:
            verdicts.append(_drop(gate, metric, demand.drop_at_most, candidate, other))
    return verdicts


def _better(gate: str, metric: str, by: float, candidate: Evidence, other: Evidence, p: float) -> Verdict:
    """Two-sided paired t test, and the size of the difference."""
    mine, theirs = _shared(metric, candidate, other)
    result = paired(mine, theirs)
    direction, sign = ("lower", -1) if describe(metric).better == "lower" else ("higher", 1)
    wanted = f"{direction} by {by:g}, p < {p:g}"
    if math.isnan(result.p):
        return Verdict(gate, wanted, result.note, False)
    got = f"{mine.mean():.3f} over {theirs.mean():.3f}: {result.difference:+.3f}, p = {result.p:.1g}, n = {result.n}"
    return Verdict(gate, wanted, got, sign * result.difference >= by and sign * result.t > 0 and result.p < p)


def _not_below(gate: str, metric: str, share: float, candidate: Evidence, other: Evidence, p: float) -> Verdict:
    """One-sided paired t test of candidate - share * other > 0 (non-inferiority with the margin 1 - share)."""
    mine, theirs = _shared(metric, candidate, other)
    result = paired(mine, share * theirs)
    wanted = f"above {share:.0%} of it, p < {p:g}"
    if math.isnan(result.p):
        return Verdict(gate, wanted, result.note, False)
    above = result.p / 2 if result.t > 0 else 1 - result.p / 2
    got = (
        f"{mine.mean():.3f} of {theirs.mean():.3f}: {mine.mean() / theirs.mean():.0%}, p = {above:.1g}, n = {result.n}"
    )
    return Verdict(gate, wanted, got, above < p)


def _shared(metric: str, candidate: Evidence, other: Evidence) -> tuple[np.ndarray, np.ndarray]:
    """A metric's values of both models, on the items where both have a valid one; empty for older rows."""
    described = describe(metric)
    column = str(described.column)
    if column not in candidate.rows or column not in other.rows:
        return np.empty(0), np.empty(0)
    divided = (candidate.human_ceiling or math.nan) if described.unit == OF_CEILING else 1.0
    divisor = divided / described.scale
    item = STIMULUS if STIMULUS in candidate.rows else "image"
    frames = [_valid(found.rows)[[item, column]] for found in (candidate, other)]
    joined = frames[0].merge(frames[1], on=item, suffixes=("_mine", "_theirs")).dropna().sort_values(item)
    return joined[f"{column}_mine"].to_numpy() / divisor, joined[f"{column}_theirs"].to_numpy() / divisor


def _valid(rows: pd.DataFrame) -> pd.DataFrame:
    """All rows, or where an attack made them those that it succeeded on."""
    return rows[rows[STATUS] == Status.OK] if STATUS in rows else rows


def _drop(gate: str, metric: str, most: float, candidate: Evidence, other: Evidence) -> Verdict:
    """Whether a metric gets worse by no more than allowed: it falls, or rises where lower is better."""
    mine, theirs = candidate.metrics.get(metric), other.metrics.get(metric)
    falls, sign = ("rises", -1) if describe(metric).better == "lower" else ("falls", 1)
    wanted = f"{falls} by at most {most:g}"
    if mine is None or theirs is None:
        return Verdict(gate, wanted, "not measured", False)
    holds = sign * (theirs - mine) <= most + ROUNDING
    return Verdict(gate, wanted, f"{mine:.3f} after {theirs:.3f}: {mine - theirs:+.3f}", holds)


def _front(candidate: Evidence, zoo: pd.DataFrame | str) -> Verdict:
    """Whether the candidate is on or beyond the standard models' front: none reaches it in both PT and AA."""
    norm = norm_of(candidate.rows) or "l2"  # rows without a norm have no tolerance either
    pt, aa = (candidate.metrics.get(in_norm(short, norm).name) for short in PLANE)
    wanted = "no standard model reaches it in both"
    if isinstance(zoo, str):
        return Verdict("Pareto front", wanted, zoo, False)
    standard = zoo[is_standard(zoo)]
    if pt is None or aa is None:
        return Verdict("Pareto front", wanted, "tolerance or alignment is not measured", False)
    if standard.empty:
        return Verdict("Pareto front", wanted, "no standard model is evaluated on these stimuli", False)
    holds = bool(beyond_front([pt], [aa], standard["pt"], standard["aa"])[0])
    reaching = standard[(standard["pt"] >= pt) & (standard["aa"] >= aa)]["model"]
    where = f"PT {pt:.3f}, AA {aa:.3f}"
    got = (
        f"{where}: none of {len(standard)} does" if holds else f"{where}: reached by {', '.join(sorted(reaching)[:3])}"
    )
    return Verdict("Pareto front", wanted, got, holds)
