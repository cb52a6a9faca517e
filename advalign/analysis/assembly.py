"""Input of the comparison from results on disk: the zoo table and the gallery."""

from pathlib import Path
from typing import Any

import pandas as pd

from advalign.analysis.report import Gallery
from advalign.analysis.standing import baseline_of, declared, group_of
from advalign.data.results import Paths, read_gallery
from advalign.data.sets.stimuli import StimulusSet
from advalign.models.declared import Zoo
from advalign.vocabulary import ZOO, describe


def zoo_table(summaries: list[dict[str, Any]], zoo: Zoo) -> pd.DataFrame:
    """One row per model with the contract's columns (zoo.csv); accuracies are shares in [0, 1].

    Args:
        summaries: of all models under one protocol (`analysis.evaluated`).
        zoo: the declared models.
    """
    rows = []
    for summary in summaries:
        entry = declared(summary, zoo)
        row = {
            "model": summary["model"],
            "group": group_of(summary, zoo),
            "recipe": summary["recipe"],
            "protocol": summary["protocol"],
            **{column: summary["metrics"].get(describe(column).name) for column in ZOO},
            "flags": ",".join(summary["flags"]),
            "big_data": int(entry is not None and entry.big_data),
            "baseline": baseline_of(summary),
        }
        row["n_valid"] = int(row["n_valid"] or 0)
        rows.append(row)
    return pd.DataFrame(rows)


def gallery_of(folder: Path, models: list[str], stimuli: StimulusSet) -> Gallery | None:
    """The stimuli of the gallery with every model's perturbations on them; None without a gallery.

    Args:
        folder: of the evaluations under one protocol.
        models: names.
        stimuli: the set of the evaluations.
    """
    kept = {name: read_gallery(Paths(folder, name)) for name in models}
    positions = sorted({key for found in kept.values() for key in found})
    if not positions:
        return None
    return Gallery(
        list(stimuli.manifest["category"].iloc[positions]),
        stimuli.images[positions].numpy(),
        stimuli.heatmaps[positions].numpy(),
        {name: [found[position].numpy() for position in positions] for name, found in kept.items()},
    )
