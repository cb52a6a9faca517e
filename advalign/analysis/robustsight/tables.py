"""Tables 1 to 5 of RobustSight (Kannappan 2025), what is measured here beside the printed values; and certificates.

A measured model has a printed value only where it has the published model's name. On other images than CIFAR-10's, such
as the drawn world's, the two are values of different things, and a note says so.
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from advalign.analysis.corruptions import corruption_table
from advalign.analysis.robustsight.measured import IMAGES, SWAPPED, Experiment
from advalign.analysis.robustsight.published import Publication
from advalign.evaluation.tasks import open_set
from advalign.files import Project, replacing, write_text
from advalign.models.checkpoints import CARD, load_checkpoint, read_history

STANDARD = "baseline"  # the recipe of the paper's standard training
ALIGNED = ("aligned", "aligned-adversarial")  # recipes of Table 4
MEASURES = {  # image set, attack or probe -> column: name of its number in a summary
    (IMAGES, "predictions"): {"clean_accuracy": "top1_accuracy", "ece": "expected_calibration_error"},
    (SWAPPED, "predictions"): {"swapped_accuracy": "top1_accuracy"},
    (SWAPPED, "shortcut"): {"swapped_accuracy": "accuracy_swapped", "shortcut_drop": "shortcut_drop"},
    (IMAGES, "fgsm"): {"fgsm_accuracy": "robust_accuracy"},
    (IMAGES, "pgd"): {
        "pgd_accuracy": "robust_accuracy",
        "pgd_low": "robust_accuracy_ci_low",
        "pgd_high": "robust_accuracy_ci_high",
        "attack_success": "attack_success_rate",
    },
    (IMAGES, "linf-curve"): {"curve_accuracy": "robust_accuracy_linf8", "mean_norm": "perturbation_tolerance_linf"},
    (IMAGES, "saliency"): {
        "iou": "saliency_iou",
        "iou_sem": "saliency_iou_sem",
        "iou_n": "saliency_n",
        "shuffled": "iou_shuffled",
        "centre": "iou_centre",
        "ceiling": "iou_ceiling",
        "over_shuffled": "iou_minus_shuffled",
        "over_shuffled_low": "iou_minus_shuffled_ci_low",
        "over_shuffled_high": "iou_minus_shuffled_ci_high",
        "over_centre": "iou_minus_centre",
    },
    (IMAGES, "smoothing"): {
        "smoothed_accuracy": "smoothed_accuracy",
        "certified_0.25": "certified_accuracy_eps0.25",
        "certified_0.5": "certified_accuracy_eps0.5",
        "abstains": "abstention_rate",
        "certified_radius": "average_certified_radius",
        "samples": "samples_per_image",
    },
}
TITLES = {
    "table1": "Table 1: standard training",
    "table2": "Table 2: robustness within linf 8/255",
    "table3": "Table 3: saliency against object masks",
    "table4": "Table 4: alignment training",
    "table5": "Table 5: errors under corruption",
    "certified": "Certified accuracy in l2, which the paper describes and does not report",
}
TABLES = {  # table -> its columns in order, and whether the paper prints them
    "table1": {"clean_accuracy": True, "ece": True, "parameters": True, "hours": True},
    "table2": {
        "clean_accuracy": True, "fgsm_accuracy": True, "pgd_accuracy": True, "pgd_low": False, "pgd_high": False,
        "attack_success": True, "curve_accuracy": False, "mean_norm": False, "ece": False, "swapped_accuracy": False,
    },
    "table3": {
        "iou": True, "iou_sd": True, "shuffled": False, "centre": False, "ceiling": False, "over_shuffled": False,
        "over_shuffled_low": False, "over_shuffled_high": False, "over_centre": False, "shortcut_drop": False,
    },
    "table4": {"clean_accuracy": True, "iou": True, "saliency_term": True, "saliency_floor": False, "hours": True},
    "table5": {
        "error": False, "noise": False, "blur": False, "weather": False, "digital": False, "change": False,
        "change_low": False, "change_high": False, "relative": False, "mce": True, "mce_noise": True, "mce_blur": True,
        "mce_weather": True, "mce_digital": True,
    },
    "certified": dict.fromkeys(MEASURES[IMAGES, "smoothing"], False),
}  # fmt: skip
UNMEASURED = ("hours", "mce", "mce_noise", "mce_blur", "mce_weather", "mce_digital")
"""What only the paper has: times, and quotients by a reference model that it does not name."""
BESIDE = ("clean_accuracy", "ece", "swapped_accuracy", "shortcut_drop")
"""Numbers that stand in a table for context: a model that has no others is not in it."""
ENDING = "_published"
DRAWN = "The images are drawn (docs/cifar.md), not CIFAR-10's: measured and published values are of different images."
UNTIMED = "Hours of training are no part of a result here: MLflow has the begin and the end of each run."
CURVE = "Table 2: curve accuracy is robust accuracy at 8/255 by minimum norms; mean norm is their mean, in 1/255."
RELATIVE = (
    "Table 5: measured errors are shares; change is the difference to each model's standard twin over the same images, "
    "with a 95 % interval; relative is the mean quotient by the twin's errors. The paper's mCE divides by the errors "
    "of a model that it does not name."
)
CIRCULAR = "Tables 3 and 4: the paper's masks come from a model's own activation maps, ours do not."


def robustsight_tables(experiment: Experiment, published: Publication) -> tuple[dict[str, pd.DataFrame], list[str]]:
    """All tables, from the evaluations under the protocols of params.yaml.

    Args:
        experiment: the evaluations; `MEASURES` says which of them count.
        published: the printed values.

    Returns:
        Table -> a row per model, measured or published, with the columns model, recipe, those of `TABLES` and, under
        the same names with `_published`, the printed values (NaN where there is none). And notes.

    Raises:
        InputError: no model is evaluated under one of the protocols, or nothing is evaluated on data/cifar.
        Damaged, CheckFailed: a result is damaged, or its numbers are not those of its rows.
    """
    experiment.need_images()
    measured = _measured(experiment)
    printed = {
        name: {f"{key}{ENDING}": value for key, value in values if value is not None}
        for name, values in published.models.items()
    }
    rows = [
        {"recipe": _recipe(name), **printed.get(name, {}), **measured.get(name, {}), "model": name}
        for name in sorted({*measured, *published.models})
    ]
    tables = {name: _table(name, pd.DataFrame(rows)) for name in TABLES}
    return tables, [f"Published: {published.source}.", *_notes(experiment.project)]


def _recipe(name: str) -> str:
    """The recipe of a published model, from its name."""
    return name.split(".")[-1 if not name.endswith(".released") else -2]


def _table(name: str, whole: pd.DataFrame) -> pd.DataFrame:
    """The models that have a value of the table's own, and its columns."""
    columns, own = ["model", "recipe"], []
    for key, is_printed in TABLES[name].items():
        pair = [*([key] if key not in UNMEASURED else []), *([f"{key}{ENDING}"] if is_printed else [])]
        columns += pair
        own += [] if key in BESIDE and name != "table1" else pair
    if name == "table1":
        whole = whole[whole["recipe"] == STANDARD]
    if name == "table4":
        whole = whole[whole["recipe"].isin(ALIGNED)]
    found = whole.reindex(columns=columns)
    return found[whole.reindex(columns=own).notna().any(axis=1)].reset_index(drop=True)


def _measured(experiment: Experiment) -> dict[str, dict[str, Any]]:
    """Model -> its recipe and its numbers by column."""
    found: dict[str, dict[str, Any]] = {}
    for (image_set, what), columns in MEASURES.items():
        for one in experiment.under(image_set, what):
            for summary in one.summaries:
                numbers = {column: summary["metrics"].get(key) for column, key in columns.items()}
                found.setdefault(summary["model"], {"recipe": summary["recipe"]}).update(numbers)
    for _, row in corruption_table(experiment.corrupted, experiment.settings).iterrows():
        numbers = {key: row[key] for key in TABLES["table5"] if key in row}
        found.setdefault(row["model"], {"recipe": experiment.models[row["model"]]["recipe"]}).update(numbers)
    for model, numbers in found.items():
        numbers["iou_sd"] = _deviation(numbers.get("iou_sem"), numbers.get("iou_n"))
        numbers |= _of_training(experiment.project, model)
    return found


def _deviation(sem: float | None, count: float | None) -> float:
    """Standard deviation over images, from the standard error of their mean."""
    return math.nan if sem is None or count is None else sem * math.sqrt(count)


def _of_training(project: Project, model: str) -> dict[str, float]:
    """Millions of trained values, saliency term and floor of the last epoch; nothing without a checkpoint."""
    for place in (project.checkpoints, project.runs):
        if (place / model / CARD).is_file():
            classifier, card = load_checkpoint(place / model)
            last = (read_history(place / model, card) or [{}])[-1]
            found = {"parameters": sum(one.numel() for one in classifier.parameters()) / 1e6}
            return found | {key: last[key] for key in TABLES["table4"] if key in last}
    return {}


def _notes(project: Project) -> list[str]:
    images = open_set(IMAGES, project)
    drawn = bool((images.listing()["cue"] >= 0).any())
    absent = [f"{told[0].upper()}{told[1:]}." for told in images.absent()]
    return [*([DRAWN] if drawn else []), *absent, UNTIMED, CURVE, CIRCULAR, RELATIVE]


def write_tables(folder: Path, tables: Mapping[str, pd.DataFrame], sentences: list[str], notes: list[str]) -> str:
    """Write the tables into a folder, as CSV and together as Markdown, and their numbers for `dvc metrics show`.

    Args:
        folder: outputs/comparison.
        tables: from `robustsight_tables`.
        sentences: what the findings say, after the tables.
        notes: last.

    Returns:
        The Markdown.
    """
    for name, table in tables.items():
        with replacing(folder / f"{name}.csv") as temporary:
            table.to_csv(temporary, index=False, float_format="%.6g")
    parts = [_markdown(TITLES[name], table) for name, table in tables.items()]
    findings = ["## What it comes to", "", *(f"- {sentence}" for sentence in sentences), ""] if sentences else []
    text = "\n".join([*parts, *findings, *notes, ""])
    write_text((folder / "tables").with_suffix(".md"), text)
    told: dict[str, dict[str, float]] = {}
    for name, table in tables.items():
        kept = table.set_index("model").reindex(columns=[key for key in TABLES[name] if key not in UNMEASURED])
        for model, row in kept.iterrows():
            told.setdefault(str(model), {}).update({str(key): value for key, value in row.dropna().items()})
    kept_numbers = {model: told[model] for model in sorted(told) if told[model]}
    write_text(folder / "metrics" / "robustsight.json", json.dumps(kept_numbers, indent=1) + "\n")
    return text


def shown(table: pd.DataFrame) -> tuple[list[str], list[list[str]]]:
    """Headings and cells of a table as words; columns without a number are left out, and a dash stands for none."""

    def cell(value: object) -> str:
        if isinstance(value, float):
            return "–" if math.isnan(value) else f"{value:.3f}"
        return str(value)

    kept = table.dropna(axis=1, how="all")
    headings = [str(column).replace(ENDING, ", published").replace("_", " ") for column in kept]
    return headings, [[cell(value) for value in row] for row in kept.to_numpy().tolist()]


def _markdown(title: str, table: pd.DataFrame) -> str:
    headings, cells = shown(table)
    if not cells:
        return f"## {title}\n\nNo model here has been measured so.\n"
    lines = [headings, ["---"] * len(headings), *cells]
    return "\n".join([f"## {title}", "", *("| " + " | ".join(line) + " |" for line in lines), ""])
