"""From results on disk to what the comparison works on: the zoo table and the gallery."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from safetensors.torch import load_file

from advalign import catalog
from advalign.analysis.report import Gallery
from advalign.analysis.table import STANDARD
from advalign.data.results import Paths
from advalign.data.sets.stimuli import StimulusSet
from advalign.errors import InputError
from advalign.models.declared import Zoo, ZooEntry
from advalign.recipes.base import STANDARD_GROUP, Recipe

COLUMNS = {
    "n_valid": "n_valid",
    "pt": "perturbation_tolerance",
    "pt_sem": "perturbation_tolerance_sem",
    "aa": "adversarial_human_alignment",
    "aa_sem": "adversarial_human_alignment_sem",
    "aa_raw": "adversarial_human_alignment_raw",
    "aligned_minus_shuffled": "aligned_minus_shuffled",
    "multilabel_accuracy": "multilabel_accuracy",
    "top1_accuracy": "top1_accuracy",
    "attack_success_rate": "attack_success_rate",
}


def group_of(summary: dict[str, Any], zoo: Zoo) -> str:
    """Group of an evaluated model: the zoo's, or what its card says, which for a standard recipe is the architecture's.

    A summary written before cards said it (`models.checkpoints.Card`) goes by its recipe.

    Raises:
        InputError: neither the model nor its architecture is declared.
    """
    if summary["model"] in zoo.models:
        return zoo.models[summary["model"]].group
    said: str | None = summary.get("group")
    if summary.get("declared"):
        return said or str(summary["declared"]["group"])
    recipe = _recipe(summary)
    group = said or (recipe.group if recipe else STANDARD_GROUP)
    if group not in (STANDARD_GROUP, *STANDARD):
        return group
    group = zoo.standard_group(summary["architecture"]) or said or STANDARD_GROUP
    if group == STANDARD_GROUP:
        raise InputError(
            f"{summary['architecture']!r} of {summary['model']} is not declared: "
            "add it to registry/zoo.yaml (architectures)"
        )
    return group


def baseline_of(said: Mapping[str, Any]) -> str | None:
    """Published name of the twin that a model is compared with; None where there is none.

    Args:
        said: of the model, its summary or its card: recipe, architecture and baseline. Where the last is missing or
            None, the recipe's word holds.
    """
    recipe = _recipe(said)
    baseline: str | None = said.get("baseline") or (recipe.baseline(said["architecture"]) if recipe else None)
    return baseline


def _recipe(said: Mapping[str, Any]) -> type[Recipe] | None:
    """The recipe that a summary or a card names, if it is one of ours."""
    name: str = said["recipe"]
    found: type[Recipe] | None = catalog.load("recipe", name) if name in catalog.names("recipe") else None
    return found


def declared(summary: dict[str, Any], zoo: Zoo) -> ZooEntry | None:
    """The zoo's entry of an evaluated model: what registry/zoo.yaml says now, else what another zoo said of it then."""
    if summary["model"] in zoo.models:
        return zoo.models[summary["model"]]
    return ZooEntry(**summary["declared"]) if summary.get("declared") else None


def zoo_table(summaries: list[dict[str, Any]], zoo: Zoo) -> pd.DataFrame:
    """One row per model with the contract's columns (zoo.csv); accuracies are shares in [0, 1].

    Args:
        summaries: of all models under one protocol (`data.results.read_summaries`).
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
            **{column: summary["metrics"].get(metric) for column, metric in COLUMNS.items()},
            "flags": ",".join(summary["flags"]),
            "big_data": int(entry is not None and entry.big_data),
            "baseline": baseline_of(summary),
        }
        row["n_valid"] = int(row["n_valid"] or 0)
        rows.append(row)
    return pd.DataFrame(rows)


def gallery_of(folder: Path, models: list[str], stimuli: StimulusSet) -> Gallery | None:
    """The pictured stimuli with every model's perturbations on them; None where none are pictured.

    Args:
        folder: of the evaluations under one protocol.
        models: names.
        stimuli: the set they were evaluated on.
    """
    kept = {name: load_file(Paths(folder, name).gallery) for name in models}
    positions = sorted({int(key) for found in kept.values() for key in found})
    if not positions:
        return None
    return Gallery(
        list(stimuli.manifest["category"].iloc[positions]),
        stimuli.images[positions].numpy(),
        stimuli.heatmaps[positions].numpy(),
        {name: [found[str(position)].numpy() for position in positions] for name, found in kept.items()},
    )
