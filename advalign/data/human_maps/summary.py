"""The table of images and what it comes to: agreement.parquet and summary.json."""

import hashlib
import json
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from advalign.data.human_maps.ceilings import spearman_brown
from advalign.data.human_maps.sides import MEASURES
from advalign.settings import HumanMapSettings

KINDS = ("ceiling", "ceiling_low", "ceiling_high", "floor", "lower", "upper", "centre", "mean_map")
IDENTITY = ("image", "sha256", "participants", "clicks")
CORRECTED = "spearman_corrected"
COLUMNS = (*IDENTITY, *(f"{measure}_{kind}" for measure in MEASURES for kind in KINDS), CORRECTED)
RESAMPLES = 1000  # of the images
AT_ONCE = 50  # resamples whose counts are held together


def as_table(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """agreement.parquet of the rows of all images; with no rows, its columns and their types are the same."""
    table = pd.DataFrame(rows, columns=[name for name in COLUMNS if name != CORRECTED])
    table[CORRECTED] = [spearman_brown(float(value)) for value in table["spearman_ceiling"]]
    types = {"image": "str", "sha256": "str", "participants": "int64", "clicks": "int64"}
    return table.astype({name: types.get(name, "float64") for name in COLUMNS})


def settings_digest(settings: HumanMapSettings, seed: int) -> str:
    """SHA-256 of all settings that maps and agreement depend on."""
    told = json.dumps({"seed": seed, "human_maps": settings.model_dump()}, sort_keys=True)
    return hashlib.sha256(told.encode()).hexdigest()


def summary(table: pd.DataFrame, participants: int, trials: int, digest: str, seed: int) -> dict[str, Any]:
    """summary.json: means over the images with 95 % percentile intervals (bootstrap over images).

    Args:
        table: agreement.parquet.
        participants: different ones.
        trials: that are kept.
        digest: of the settings.
        seed: of the resamples.
    """
    names = [name for name in COLUMNS if name not in IDENTITY]
    middle, low, high = _means(table[names].to_numpy(np.float64), np.random.default_rng([seed, 1]))
    told = {
        name: {"mean": float(middle[place]), "ci_low": float(low[place]), "ci_high": float(high[place])}
        for place, name in enumerate(names)
    }
    return {
        "images": len(table),
        "participants": participants,
        "trials": trials,
        "human_ceiling": told["spearman_ceiling"]["mean"],
        "above_floor": int((table[CORRECTED] > table["spearman_floor"]).sum()),
        "measures": {
            measure: {name.removeprefix(f"{measure}_"): told[name] for name in names if name.startswith(f"{measure}_")}
            for measure in MEASURES
        },
        "settings_sha256": digest,
    }


Means = NDArray[np.float64]


def _means(values: NDArray[np.float64], rng: np.random.Generator) -> tuple[Means, Means, Means]:
    """Means of the columns (images, K) over the known values, and the bounds of their intervals."""
    count, columns = values.shape
    if count == 0:
        nothing = np.full(columns, np.nan)
        return nothing, nothing, nothing
    known = ~np.isnan(values)
    filled = np.where(known, values, 0.0)
    resampled = []
    with np.errstate(invalid="ignore"):
        for _ in range(RESAMPLES // AT_ONCE):
            draws = rng.multinomial(count, np.full(count, 1 / count), AT_ONCE).astype(np.float64)
            resampled.append((draws @ filled) / (draws @ known))
        middle = filled.sum(0) / known.sum(0)
    some = np.where(np.isnan(middle), 0.0, np.concatenate(resampled))
    low, high = np.nanquantile(some, (0.025, 0.975), axis=0)
    return middle, np.where(np.isnan(middle), np.nan, low), np.where(np.isnan(middle), np.nan, high)
