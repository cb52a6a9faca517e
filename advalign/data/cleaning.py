"""Cleaning of trials, image by image, each step counted (docs/human-maps.md, section Cleaning)."""

from collections import Counter
from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from advalign.data.participants import CATCH, IMAGE, MOBILE, PARTICIPANT, ROW, X, Y, inside
from advalign.settings import HumanMapSettings

STEPS = ("catch", "mobile", "repeated", "outside", "few clicks", "suspicious", "few participants")
MOST_NAMES = 20  # participants and images that a step lists
MAD_TO_SIGMA = 1.4826  # of a normal distribution
LEAST_IMAGES = 2  # of a participant whose agreement is judged


@dataclass(frozen=True)
class Step:
    """What one step did to the trials of one image.

    Attributes:
        step: one of `STEPS`.
        before, after: trials.
        participants: of the trials that were dropped, or, of "outside", that lost clicks; one entry per trial.
        clicks: dropped from trials that stay: those outside the image, or ("few clicks") later than the last one kept.
    """

    step: str
    before: int
    after: int
    participants: tuple[str, ...]
    clicks: int = 0


@dataclass(frozen=True)
class Cleaned:
    """The trials of one image that are kept, and what each step dropped.

    Attributes:
        image: its name.
        trials: as `participants.read_trials` gives them, in order of their rows, one per participant; all clicks lie
            in the image: -0.5 <= x < width - 0.5, and y alike. No rows where the image has too few participants.
        steps: in the order of `STEPS`; "suspicious" only where suspicious participants are dropped.
    """

    image: str
    trials: pd.DataFrame
    steps: tuple[Step, ...]


def clean_image(
    trials: pd.DataFrame,
    width: int,
    height: int,
    settings: HumanMapSettings,
    suspicious: AbstractSet[str] = frozenset(),
) -> Cleaned:
    """Clean the trials of one image.

    A trial whose source says nothing of catch trials or of the device passes those steps. Of several trials of one
    participant the first one that passed the steps before is kept.

    Args:
        trials: at least one, of one image, as `participants.read_trials` gives them.
        width, height: of the image, in pixels.
        settings: thresholds. `outlier_z` is not looked at: `suspicious` are the participants it singled out.
        suspicious: participants to drop where `settings.drop_outliers`.
    """
    trials = trials.sort_values(ROW, kind="stable", ignore_index=True)
    record = _Record(trials[PARTICIPANT].to_numpy(object))
    catch = trials[CATCH].to_numpy(np.float64, na_value=np.nan)
    # of float32, as data/participants stores it: .95 there is a little less than .95
    record.drop("catch", catch.astype(np.float32) < np.float32(settings.catch))
    mobile = np.equal(trials[MOBILE].to_numpy(object), True).astype(bool)
    record.drop("mobile", mobile & settings.drop_mobile)
    record.drop("repeated", _repeated(record))
    clicks = _Clicks.of(trials)
    lost = clicks.keep(inside(clicks.x, clicks.y, width, height))
    record.change("outside", lost)
    record.drop("few clicks", clicks.lengths <= settings.min_clicks)
    most = min((limit for limit in (settings.max_clicks, settings.clicks_up_to) if limit is not None), default=None)
    if most is not None:
        record.trimmed(clicks.keep(clicks.order() < most))
    if settings.drop_outliers:
        record.drop("suspicious", np.isin(record.participants, list(suspicious)))
    record.drop("few participants", np.full(len(trials), record.alive.sum() < settings.min_subjects))
    kept = trials.assign(**{X: clicks.split(clicks.x), Y: clicks.split(clicks.y)})[record.alive]
    return Cleaned(str(trials[IMAGE].iloc[0]), kept.reset_index(drop=True), tuple(record.steps))


class _Record:
    """Which trials are still there, and the steps so far."""

    def __init__(self, participants: NDArray[Any]) -> None:
        self.participants = participants
        self.alive = np.ones(len(participants), bool)
        self.steps: list[Step] = []

    def drop(self, step: str, flawed: NDArray[np.bool_]) -> None:
        """Drop the flawed ones of the trials that are there."""
        gone = flawed & self.alive
        before = int(self.alive.sum())
        self.alive &= ~flawed
        self.steps.append(Step(step, before, int(self.alive.sum()), self._names(gone)))

    def change(self, step: str, lost: NDArray[np.int64]) -> None:
        """Note the clicks that the trials lost; all trials stay."""
        there, lost = int(self.alive.sum()), lost * self.alive
        self.steps.append(Step(step, there, there, self._names(lost > 0), int(lost.sum())))

    def trimmed(self, lost: NDArray[np.int64]) -> None:
        """Note in the last step the clicks that the trials lost."""
        last = self.steps[-1]
        self.steps[-1] = Step(last.step, last.before, last.after, last.participants, int((lost * self.alive).sum()))

    def _names(self, chosen: NDArray[np.bool_]) -> tuple[str, ...]:
        return tuple(map(str, self.participants[chosen]))


def _repeated(record: _Record) -> NDArray[np.bool_]:
    """Of the trials that are there, those whose participant was there before."""
    repeated = np.zeros(len(record.alive), bool)
    repeated[record.alive] = pd.Series(record.participants[record.alive]).duplicated().to_numpy()
    return repeated


@dataclass
class _Clicks:
    """Clicks of all trials one after another: coordinates (C,), and how many each of the N trials has, (N,)."""

    x: NDArray[np.float32]
    y: NDArray[np.float32]
    lengths: NDArray[np.int64]

    @classmethod
    def of(cls, trials: pd.DataFrame) -> "_Clicks":
        lengths = np.array([len(one) for one in trials[X]], np.int64)
        empty = np.empty(0, np.float32)
        return cls(np.concatenate([empty, *trials[X]]), np.concatenate([empty, *trials[Y]]), lengths)

    def order(self) -> NDArray[np.int64]:
        """(C,) how many clicks of the same trial came before."""
        first = np.cumsum(self.lengths) - self.lengths
        return np.arange(len(self.x)) - np.repeat(first, self.lengths)

    def keep(self, kept: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Keep the chosen clicks; return how many each trial lost, (N,)."""
        trial = np.repeat(np.arange(len(self.lengths)), self.lengths)
        left = np.bincount(trial[kept], minlength=len(self.lengths)).astype(np.int64)
        lost = self.lengths - left
        self.x, self.y, self.lengths = self.x[kept], self.y[kept], left
        return lost

    def split(self, values: NDArray[np.float32]) -> pd.Series:
        return pd.Series(np.split(values, np.cumsum(self.lengths)[:-1]), dtype=object)


@dataclass
class _Total:
    before: int = 0
    after: int = 0
    clicks: int = 0
    participants: Counter[str] = field(default_factory=Counter)
    images: Counter[str] = field(default_factory=Counter)


class CleaningTable:
    """The steps of `clean_image`, added up over images. The order of the images makes no difference."""

    def __init__(self) -> None:
        self._totals: dict[str, _Total] = {}

    def add(self, image: str, steps: Iterable[Step]) -> None:
        """Add what was done to one image (`Cleaned.image` and `Cleaned.steps`)."""
        for step in steps:
            total = self._totals.setdefault(step.step, _Total())
            total.before += step.before
            total.after += step.after
            total.clicks += step.clicks
            total.participants.update(step.participants)
            if step.participants:
                total.images[image] += len(step.participants)

    def steps(self) -> list[dict[str, Any]]:
        """The steps of cleaning.json, in the order of `STEPS`.

        `dropped` is before - after, except that of the step "outside", which drops no trial, it is how many trials lost
        clicks. `clicks_dropped` are those of trials that stayed. The participants and images listed are the 20 with
        most such trials.
        """
        return [_as_json(step, self._totals[step]) for step in STEPS if step in self._totals]


def _as_json(step: str, total: _Total) -> dict[str, Any]:
    return {
        "step": step,
        "trials_before": total.before,
        "trials_after": total.after,
        "dropped": total.participants.total(),
        "clicks_dropped": total.clicks,
        "participants": _most(total.participants),
        "images": _most(total.images),
    }


def _most(counts: Counter[str]) -> list[str]:
    return [name for name, _ in sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:MOST_NAMES]]


def robust_z(participants: Sequence[str], agreements: Sequence[float] | NDArray[np.float64]) -> pd.DataFrame:
    """How far each participant's agreement with the others is from the usual one.

    z = (value - median) / (1.4826 MAD) of the participants' mean agreements, over those who have at least two images
    with a known agreement. Where the MAD is 0 there is no scale, and every z is 0.

    Args:
        participants: of every trial, N names.
        agreements: (N,) of the trial's map with that of the other participants of its image; NaN: unknown.

    Returns:
        Columns participant, trials (with a known agreement), agreement (mean), z; sorted by z and then by name.
    """
    table = pd.DataFrame({"participant": list(participants), "agreement": np.asarray(agreements, np.float64)}).dropna()
    means = table.groupby("participant", sort=True)["agreement"].agg(["size", "mean"]).reset_index()
    means.columns = pd.Index(["participant", "trials", "agreement"])
    means = means[means["trials"] >= LEAST_IMAGES].reset_index(drop=True)
    away = means["agreement"] - means["agreement"].median()
    scale = MAD_TO_SIGMA * away.abs().median()
    means["z"] = away / scale if scale > 0 else 0.0
    return means.sort_values(["z", "participant"], ignore_index=True)


def suspicious(
    participants: Sequence[str], agreements: Sequence[float] | NDArray[np.float64], settings: HumanMapSettings
) -> list[dict[str, Any]]:
    """The participants whose `robust_z` is below `settings.outlier_z`, as cleaning.json lists them, lowest first.

    Args: as `robust_z`.
    """
    table = robust_z(participants, agreements)
    found = table[table["z"] < settings.outlier_z]
    rows = found.itertuples(index=False)
    return [dict(zip(found.columns, row, strict=True)) | {"dropped": settings.drop_outliers} for row in rows]
