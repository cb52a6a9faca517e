"""Made-up results of stage `maps`, in the form of outputs/maps."""

import numpy as np
import pandas as pd

MEASURES = ("spearman", "auc", "nss", "emd")
COLUMNS = ("ceiling", "ceiling_low", "ceiling_high", "floor", "lower", "upper", "centre", "mean_map")


def agreement(images=40):
    """One row per image: ceilings about 0.7, floors about 0.3; corrected, those of two images are at the floor."""
    generator = np.random.default_rng(0)
    table = pd.DataFrame({"image": [f"image_{place:03d}.JPEG" for place in range(images)]})
    table["sha256"] = [f"{place:064x}" for place in range(images)]
    table["participants"], table["clicks"] = 10, 60
    for measure, (high, low) in zip(MEASURES, ((0.7, 0.3), (0.85, 0.6), (1.5, 0.5), (0.1, 0.25)), strict=True):
        table[f"{measure}_ceiling"] = high + generator.normal(0, 0.05, images)
        for column in COLUMNS[1:]:
            table[f"{measure}_{column}"] = (low if column in ("floor", "centre", "mean_map") else high) + (
                generator.normal(0, 0.05, images)
            )
    table["spearman_corrected"] = 2 * table["spearman_ceiling"] / (1 + table["spearman_ceiling"])
    table.loc[:1, "spearman_corrected"] = table.loc[:1, "spearman_floor"]
    return table


def curve():
    """Ceilings of 4 to 10 participants, extrapolated to 40; of all measures, one with an unknown end."""
    counts = [4, 6, 8, 10]
    found = {}
    for measure in MEASURES:
        ceilings = [0.5, 0.6, 0.66, 0.7]
        low, high = [value - 0.02 for value in ceilings], [value + 0.03 for value in ceilings]
        further = [
            {"participants": count, "ceiling": value, "low": value - 0.05, "high": value + 0.05}
            for count, value in ((20, 0.8), (40, 0.88))
        ]
        found[measure] = {
            "participants": counts, "ceiling": ceilings, "low": low, "high": high, "fit": {"rho": 0.3},
            "extrapolated": further,
        }  # fmt: skip
    found["emd"]["low"][0] = None
    return found
