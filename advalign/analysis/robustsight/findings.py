"""What RobustSight's claims come to on the models here: differences over the same images, with intervals.

The paper's words are that alignment raises IoU, that it keeps accuracy, that it "does not significantly impact
adversarial robustness", and that the two are "largely orthogonal" (Kannappan 2025, 4.6). Each is a question here, and
its answer an interval. Models are found by their published names: STEM.baseline, STEM.aligned, STEM.aligned.shuffled,
STEM_linf_eps8_255.adversarial, STEM_linf_eps8_255.aligned.
"""

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd

from advalign.analysis.robustsight.measured import Experiment, mean
from advalign.analysis.scatter import p_words
from advalign.analysis.statistics import paired
from advalign.averages import bootstrap_interval

CONTROLS = ("IoU − shuffled", "IoU − centre")
ROBUSTNESS = ("minimum linf norm (1/255)", "robust accuracy (PGD)")
FLOOR = 0.05  # robust accuracy below which two models cannot be told apart by it


@dataclass(frozen=True)
class Effect:
    """A change of one measure over the same images.

    Attributes:
        measure: what is measured (`measured.MEASURES`).
        model, against: the models; of a difference of two effects, "A − B" and "C − D".
        difference: mean over the images; low and high: its 95 % interval (BCa); p: of the paired t test.
        n: images with a value of all models.
    """

    measure: str
    model: str
    against: str
    difference: float
    low: float
    high: float
    p: float
    n: int

    @property
    def sign(self) -> int:
        """1 or -1 where the interval excludes zero, else 0."""
        return 1 if self.low > 0 else -1 if self.high < 0 else 0

    def __str__(self) -> str:
        return f"{self.difference:+.3f} ({self.low:+.3f} to {self.high:+.3f}, {p_words(self.p)}, n = {self.n})"


@dataclass(frozen=True)
class Finding:
    """An answer: "yes", "no", or "not seen" where an interval includes zero; and what carries it, in words."""

    question: str
    model: str
    answer: str
    told: str
    effects: tuple[Effect, ...]

    @property
    def sentence(self) -> str:
        """All of it, as Markdown."""
        return f"{self.question} {self.model}: **{self.answer}**. {self.told}"

    def plain(self) -> dict[str, Any]:
        """For JSON; numbers that are not there are None."""
        plain = asdict(self)
        for effect in plain["effects"]:
            effect |= {key: None for key, value in effect.items() if isinstance(value, float) and math.isnan(value)}
        return plain


def findings(experiment: Experiment) -> list[Finding]:
    """Every question that the evaluated models can answer, by model.

    Raises:
        As `Experiment`.
    """
    found: list[Finding] = []
    for model in sorted(experiment.models):
        stem, _, ending = model.partition(".")
        plain = stem.partition("_linf_")[0]
        if ending == "aligned" and plain == stem:
            found += _of_alignment(experiment, stem)
        if ending == "aligned" and plain != stem:
            found += _of_both(experiment, plain, stem)
        if ending == "adversarial":
            found += _of_adversarial(experiment, plain, stem)
    return found


def _of_alignment(experiment: Experiment, stem: str) -> Iterator[Finding]:
    own, control, baseline = f"{stem}.aligned", f"{stem}.aligned.shuffled", f"{stem}.baseline"
    over = [effect for name in CONTROLS if (effect := change(experiment, name, own, baseline))]
    if len(over) == len(CONTROLS):
        told = " and ".join(f"{effect.measure} by {effect}" for effect in over)
        other = change(experiment, CONTROLS[0], control, baseline)
        beside = f"; with other images' masks ({control}) {other.measure} changes by {other}" if other else ""
        answer = (
            "yes" if all(one.sign > 0 for one in over) else "no" if any(one.sign < 0 for one in over) else "not seen"
        )
        yield _finding(
            "Does alignment raise IoU over both controls?", answer, own,
            f"against {baseline} it changes {told}{beside}", [*over, *([other] if other else [])],
        )  # fmt: skip
    for measure, question in (
        ("accuracy", "Does alignment cost accuracy?"),
        (ROBUSTNESS[0], "Does alignment cost robustness?"),
    ):
        if cost := change(experiment, measure, own, baseline):
            remark = _floor(experiment, own, baseline) if measure == ROBUSTNESS[0] else ""
            yield _finding(
                question, _answer(-cost.sign), own, f"{measure} changes by {cost} against {baseline}{remark}", [cost]
            )
    if drop := change(experiment, "shortcut drop", own, baseline):
        before, after = (mean(experiment.values("shortcut drop", name)) for name in (baseline, own))
        yield _finding(
            "Does alignment lower the reliance on the planted cue?", _answer(-drop.sign), own,
            f"the drop of accuracy with swapped cues goes from {before:.3f} to {after:.3f}, by {drop}", [drop],
        )  # fmt: skip


def _of_adversarial(experiment: Experiment, plain: str, stem: str) -> Iterator[Finding]:
    own, baseline = f"{stem}.adversarial", f"{plain}.baseline"
    for measure, question, better in (
        ("accuracy", "Does adversarial training cost accuracy?", -1),
        (CONTROLS[0], "Does adversarial training raise IoU over another image's mask?", 1),
        ("corruption error", "Does adversarial training lower errors under corruption?", -1),
    ):
        if effect := change(experiment, measure, own, baseline):
            told = f"{measure} changes by {effect} against {baseline}"
            yield _finding(question, _answer(better * effect.sign), own, told, [effect])


def _of_both(experiment: Experiment, plain: str, stem: str) -> Iterator[Finding]:
    """Alignment's effect with adversarial training minus its effect without: zero where the two add up."""
    for measure in (CONTROLS[0], ROBUSTNESS[0], "accuracy"):
        names = f"{stem}.aligned", f"{stem}.adversarial", f"{plain}.aligned", f"{plain}.baseline"
        values = [experiment.values(measure, name) for name in names]
        if any(found is None for found in values):
            continue
        both, adversarial, aligned, baseline = values
        pairs = f"{names[0]} − {names[1]}", f"{names[2]} − {names[3]}"
        interaction = _effect(experiment, measure, *pairs, both - adversarial, aligned - baseline)
        with_it = _effect(experiment, measure, names[0], names[1], both, adversarial)
        without = _effect(experiment, measure, names[2], names[3], aligned, baseline)
        if not (interaction and with_it and without):
            continue
        answer = "no" if interaction.sign else "not refuted"
        told = (
            f"alignment changes it by {without} without adversarial training and by {with_it} with it; the difference "
            f"is {interaction}"
        )
        yield _finding(
            f"Do alignment and adversarial training add up in {measure}?", answer, names[0], told,
            [without, with_it, interaction],
        )  # fmt: skip


def change(experiment: Experiment, measure: str, model: str, against: str) -> Effect | None:
    """A model's values minus another's over the same images; None where one of them is not measured so."""
    first, second = (experiment.values(measure, name) for name in (model, against))
    return None if first is None or second is None else _effect(experiment, measure, model, against, first, second)


def _effect(experiment: Experiment, measure: str, model: str, against: str, first: Any, second: Any) -> Effect | None:
    both = pd.concat([first, second], axis=1, join="inner").dropna().sort_index().to_numpy(np.float64)
    if len(both) < 2:
        return None
    settings = experiment.settings
    interval = bootstrap_interval(both[:, 0] - both[:, 1], settings.compare.bootstrap, seed=settings.seed)
    tested = paired(both[:, 0], both[:, 1])
    return Effect(measure, model, against, tested.difference, interval.low, interval.high, tested.p, len(both))


def _floor(experiment: Experiment, *models: str) -> str:
    """A remark where robust accuracy is too near zero to show a cost: the paper compares two models there."""
    shares = [mean(experiment.values(ROBUSTNESS[1], model)) for model in models]
    if not all(share < FLOOR for share in shares):
        return ""
    return f"; robust accuracy cannot show a cost here, both are near zero ({shares[0]:.3f} and {shares[1]:.3f})"


def _answer(sign: int) -> str:
    return {1: "yes", -1: "no", 0: "not seen"}[sign]


def _finding(question: str, answer: str, model: str, told: str, effects: list[Effect]) -> Finding:
    return Finding(question, model, answer, f"{told[0].upper()}{told[1:]}.", tuple(effects))
