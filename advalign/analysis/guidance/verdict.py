"""The sentences of a study of guided models, each computed from its comparisons; none says more than controls allow."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from advalign.analysis.guidance.comparisons import (
    ACCURACY,
    CODE,
    CONTROLS,
    SHUFFLE,
    Compared,
    compared,
    geometry_links,
    shuffles_against_accuracy,
    trends,
)
from advalign.analysis.guidance.measured import AREA, DEGRADED, SHUFFLED, Results
from advalign.analysis.guidance.statistics import Partial, Trend
from advalign.analysis.scatter import p_words
from advalign.analysis.statistics import holm

HELPS, NOT, BELOW, OPEN, UNRELIABLE = "helps", "not distinguishable", "less robust", "cannot be judged", "no finding"
TOLD = {CODE: "a class code", SHUFFLE: "its shuffle", ACCURACY: "unguided training as accurate"}
ALONE = {**TOLD, ACCURACY: "accuracy alone"}
RISES, FALLS, NO_TREND, UNTESTED = "rises", "falls", "no trend", "not tested"
LEVEL = 0.05


@dataclass(frozen=True)
class Verdict:
    """What can be said of an area, or of a trend.

    Attributes:
        about: the area, or what the trend is of.
        answer: `HELPS`, `NOT`, ... or `RISES`, `FALLS`, ...
        sentence: all of it, with the provenance of the responses and the numbers.
    """

    about: str
    answer: str
    sentence: str


@dataclass(frozen=True)
class Judgement:
    """Everything that is said of a study in one norm.

    Attributes:
        norm: of the tolerances: "l2" or "linf".
        areas: a verdict per area, in their order.
        trends: of the areas, of their shuffles, of the degraded areas.
        further: sentences on shuffles at equal accuracy and on geometry.
        compared: what they rest on.
        links: measure of geometry -> its correlation with tolerance.
        tests: role -> Page's test.
    """

    norm: str
    areas: Sequence[Verdict]
    trends: Sequence[Verdict]
    further: Sequence[Verdict]
    compared: Sequence[Compared]
    links: dict[str, Partial]
    tests: dict[str, Trend]

    @property
    def sentences(self) -> list[str]:
        """All of them."""
        return [one.sentence for one in (*self.areas, *self.trends, *self.further)]


def judge(results: Results, norm: str, *, resamples: int, seed: int) -> Judgement:
    """Compare, test and put into words what a study has measured.

    Args:
        results: of the study.
        norm: "l2" or "linf".
        resamples, seed: of the intervals.
    """
    entries = compared(results, norm, resamples, seed)
    shuffles = shuffles_against_accuracy(results, norm, resamples, seed)
    links, tests = geometry_links(results, norm, resamples, seed), trends(results, norm)
    areas = [of_area(area, entries, results.provenance, results.reliability) for area in results.areas]
    told = [of_trend(role, test, results.areas, results.provenance) for role, test in tests.items()]
    further = [of_shuffles(shuffles, results.provenance)] if shuffles else []
    return Judgement(norm, areas, told, [*further, *of_geometry(links)], [*entries, *shuffles], links, tests)


def of_area(area: str, entries: Sequence[Compared], provenance: str, reliability: pd.DataFrame) -> Verdict:
    """The verdict on an area: it helps only where it beats all `CONTROLS` together.

    Args:
        area: its name.
        entries: of `comparisons.compared`.
        provenance: of the responses.
        reliability: see `measured.Results`.
    """
    name = f"{area} ({provenance} responses)"
    if remark := _unreliable(area, reliability):
        return Verdict(area, UNRELIABLE, f"{name} is no finding: {remark}.")
    own = {one.against: one for one in entries if one.area == area and one.against in CONTROLS}
    if not own:
        return Verdict(area, OPEN, f"{name} cannot be judged: no model guided by it is in the study.")
    usable = {key: one for key, one in own.items() if not one.lacking}
    above, below, same = ([one for one in usable.values() if one.sign == sign] for sign in (1, -1, 0))
    lacking = [one.lacking for one in own.values() if one.lacking]
    if len(above) == len(CONTROLS):
        return Verdict(area, HELPS, f"{name} helps: its models are more robust than {_list(above)}.")
    parts = [f"is less robust than {_list(below)}"] if below else []
    parts += [f"is not distinguishable from {_list(same, ALONE)}"] if same else []
    answer = BELOW if below else NOT if same else OPEN
    if answer == OPEN:
        parts = [f"cannot be judged: {'; '.join(lacking)}"]
    sentence = f"{name} {' and '.join(parts)}."
    sentence += f" It is more robust than {_list(above)}." if above else ""
    sentence += f" Not compared: {'; '.join(lacking)}." if lacking and answer != OPEN else ""
    return Verdict(area, answer, sentence)


def _unreliable(area: str, reliability: pd.DataFrame) -> str:
    if reliability.empty:
        return ""
    own = reliability[reliability["roi"] == area]
    poor = own[own["above_zero"].map(lambda value: value is not None and not pd.isna(value) and not value)]
    if poor.empty:
        return ""
    halves = ", ".join(f"{value:.2f}" for value in poor["split_half"])
    return f"the reliability of the area is not above zero (split-half {halves})"


def _list(entries: Sequence[Compared], words: Mapping[str, str] = TOLD) -> str:
    told = [f"{words[one.against]} ({_number(one)})" for one in entries]
    return " and ".join([", ".join(told[:-1]), told[-1]] if len(told) > 1 else told)


def _number(one: Compared) -> str:
    found = one.found
    return f"{found.difference:+.3f}, 95 % {found.low:+.3f} to {found.high:+.3f}, Holm {p_words(one.p_holm)}"


def of_trend(role: str, test: Trend, areas: Sequence[str], provenance: str) -> Verdict:
    """Whether tolerance rises over the areas, over their shuffles, or over the degraded areas.

    Args:
        role: `AREA`, `SHUFFLED` or `DEGRADED`.
        test: Page's, over the areas in their order.
        areas: in this order.
        provenance: of the responses.
    """
    order = " < ".join(areas)
    what = {
        AREA: f"{provenance} responses",
        SHUFFLED: f"{provenance} responses shuffled over images",
        DEGRADED: f"{provenance} responses at the lowest ceiling and dimension",
    }[role]
    if math.isnan(test.p):
        return Verdict(role, UNTESTED, f"The order {order} ({what}) is not tested: {test.note}.")
    kind = "exact" if test.exact else "approximate"
    numbers = f"Page's L = {test.statistic:g}, {kind} p = {_p(test.p)}, {test.blocks} blocks of seed and subject"
    answer = RISES if test.p < LEVEL else FALLS if test.p_falling < LEVEL else NO_TREND
    if answer == FALLS:
        numbers = numbers.replace(f"p = {_p(test.p)}", f"p of the falling order = {_p(test.p_falling)}")
    told = {RISES: "Tolerance rises", FALLS: "Tolerance falls", NO_TREND: "Tolerance shows no trend"}[answer]
    remark = {
        (SHUFFLED, RISES): " So the order is not that of the responses to the images.",
        (DEGRADED, RISES): " So the order is not that of how clean or wide the areas' responses are.",
        (DEGRADED, NO_TREND): " So how clean or wide the areas' responses are can explain the order.",
    }.get((role, answer), "")
    return Verdict(role, answer, f"{told} over {order} ({what}; {numbers}).{remark}")


def of_shuffles(entries: Sequence[Compared], provenance: str) -> Verdict:
    """Whether shuffled targets beat unguided training as accurate: what guidance does without content."""
    what = f"Shuffled targets ({provenance} responses)"
    usable = [one for one in entries if not one.lacking]
    if not usable:
        return Verdict(ACCURACY, OPEN, f"{what} cannot be compared: {entries[0].lacking}.")
    above = [one for one in usable if one.sign > 0]
    if above:
        numbers = ", ".join(f"{one.area} ({_number(one)})" for one in above)
        return Verdict(ACCURACY, RISES, f"{what} are more robust than unguided training as accurate: {numbers}.")
    numbers = ", ".join(f"{one.area} ({_number(one)})" for one in usable)
    return Verdict(ACCURACY, NOT, f"{what} are not more robust than unguided training as accurate: {numbers}.")


def of_geometry(links: dict[str, Partial]) -> list[Verdict]:
    """Whether the geometry of class manifolds goes with tolerance at equal accuracy, measure by measure (Holm)."""
    corrected = holm([one.p for one in links.values()])
    told = []
    for (name, link), p in zip(links.items(), corrected, strict=True):
        if math.isnan(link.rho):
            sentence = f"Manifold {name} and tolerance are not related here: {link.note}."
            told.append(Verdict(name, UNTESTED, sentence))
            continue
        seen = p < LEVEL and not link.low <= 0 <= link.high
        numbers = f"partial rho {link.rho:+.2f}, 95 % {link.low:+.2f} to {link.high:+.2f}, Holm {p_words(float(p))}"
        shown = ("rises" if link.rho > 0 else "falls") if seen else "shows no relation"
        sentence = f"At equal accuracy tolerance {shown} with manifold {name} over {link.n} models ({numbers})."
        told.append(Verdict(name, (RISES if link.rho > 0 else FALLS) if seen else NO_TREND, sentence))
    return told


def _p(p: float) -> str:
    """A p value with two significant digits.

    >>> _p(0.000129), _p(0.5)
    ('0.00013', '0.5')
    """
    return f"{p:.2g}"
