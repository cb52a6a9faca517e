"""How many participants are enough: agreement of two halves against the number of participants, extrapolated.

By Spearman and Brown the agreement of two halves of N participants is 1 / (1 + L / N), where L is what one participant
lacks. Rank correlation of maps that have ties follows that only roughly, so the exponent of N is fitted too:

| measure | form | what it tends to |
|---|---|---|
| spearman | 1 / (1 + L N^-B) | 1 |
| auc | (1 + 1 / (1 + L N^-B)) / 2 | 1: the map ranks its own top tenth first |
| nss | A / (1 + L / N) | A: the map's mean z score on its own top tenth |
| emd | L N^-B | 0 |

All are straight lines after a transform; least squares weigh a number of participants by itself, since the large ones
say most of still larger ones. Intervals are percentiles over resamples of the images, the fit included. They do not
hold the error of the form.
"""

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

from advalign.data.human_maps.ceilings import SIZES
from advalign.data.human_maps.sides import MEASURES, Values

RESAMPLES = 1000  # of the images
FURTHER = (1.5, 2, 3, 4, 6, 8)  # times the largest number of participants that was measured
ENOUGH = 0.5  # share of the images that must have so many participants

Floats = NDArray[np.float64]


def curves(found: Values, participants: NDArray[np.int64], seed: int) -> dict[str, Any]:
    """The content of curve.json.

    All points are of the same images: those with the largest number of participants that at least half of the images
    have. Without such a number, or with one image, it is empty.

    Args:
        found: by measure, (images, len(SIZES)), from `ceilings.by_participants`.
        participants: (images,), of every image.
        seed: of the resamples.
    """
    reached = [size for size in SIZES if (participants >= size).mean() >= ENOUGH] if len(participants) > 1 else []
    if not reached:
        return {}
    chosen = participants >= reached[-1]
    draws = np.random.default_rng([seed, 2]).multinomial(
        int(chosen.sum()), np.full(chosen.sum(), 1 / chosen.sum()), RESAMPLES
    )
    return {
        measure: _curve(measure, found[measure][chosen, : len(reached)], np.array(reached), draws)
        for measure in MEASURES
    }


def _curve(measure: str, values: Floats, sizes: NDArray[np.int64], draws: NDArray[np.int64]) -> dict[str, Any]:
    """One measure's curve from the values of images (I, K) at K numbers of participants."""
    known = ~np.isnan(values)
    filled = np.where(known, values, 0.0)
    points = (filled.sum(0) / known.sum(0))[None]
    resampled = (draws @ filled) / (draws @ known)
    further = np.unique([int(2 * round(times * sizes[-1] / 2)) for times in FURTHER])
    told = {"participants": sizes.tolist(), "ceiling": points[0].tolist()} | _interval(resampled)
    if len(sizes) < 2:
        return told | {"fit": {}, "extrapolated": []}
    line, lines = _lines(measure, points, sizes), _lines(measure, resampled, sizes)
    beyond, around = _inverse(measure, line, further)[0], _interval(_inverse(measure, lines, further))
    told |= {"fit": _named(measure, line[0])}
    rows = zip(further.tolist(), beyond.tolist(), around["low"], around["high"], strict=True)
    names = ("participants", "ceiling", "low", "high")
    return told | {"extrapolated": [dict(zip(names, row, strict=True)) for row in rows]}


def _interval(resampled: Floats) -> dict[str, list[float]]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a number of participants without any value stays NaN
        low, high = np.nanquantile(resampled, (0.025, 0.975), axis=0)
    return {"low": low.tolist(), "high": high.tolist()}


def _lines(measure: str, values: Floats, sizes: NDArray[np.int64]) -> Floats:
    """Intercept and slope of the transformed values (R, K) against the transformed numbers (K,): (R, 2)."""
    across = 1 / sizes if measure == "nss" else np.log(sizes)
    design = np.stack([np.ones(len(sizes)), across], 1) * np.sqrt(sizes)[:, None]
    with np.errstate(invalid="ignore"):  # agreement by chance or below has no such line: NaN
        fitted: Floats = (np.linalg.pinv(design) @ (_transform(measure, values) * np.sqrt(sizes)).T).T
    return fitted


def _transform(measure: str, values: Floats) -> Floats:
    with np.errstate(invalid="ignore", divide="ignore"):
        if measure == "emd":
            return np.log(values)
        if measure == "nss":
            return 1 / values
        share = 2 * values - 1 if measure == "auc" else values
        result: Floats = np.log(1 / share - 1)
        return result


def _inverse(measure: str, lines: Floats, sizes: NDArray[np.int64]) -> Floats:
    """Values (R, K) that the lines (R, 2) give at K numbers of participants."""
    if measure == "nss":
        return 1 / (lines[:, :1] + lines[:, 1:] / sizes)
    straight = lines[:, :1] + lines[:, 1:] * np.log(sizes)
    if measure == "emd":
        return np.exp(straight)
    share = 1 / (1 + np.exp(straight))
    result: Floats = (1 + share) / 2 if measure == "auc" else share
    return result


def _named(measure: str, line: Floats) -> dict[str, float]:
    """A line's intercept and slope as the constants of the module's table."""
    intercept, slope = map(float, line)
    if measure == "nss":
        return {"A": 1 / intercept, "L": slope / intercept}
    return {"L": float(np.exp(intercept)), "B": -slope}
