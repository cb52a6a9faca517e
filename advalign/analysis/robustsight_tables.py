"""Tables 1 and 2 of RobustSight (Kannappan 2025): what is measured here, and the printed values beside it.

A measured model has a printed value only where it has the published model's name. On other images than CIFAR-10's, such
as the drawn world's, the two are values of different things, and a note says so.
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import Field

from advalign.analysis.evaluated import evaluated
from advalign.errors import InputError
from advalign.evaluation.protocols import protocol
from advalign.evaluation.tasks import open_set
from advalign.files import Project, replacing, write_text
from advalign.models.checkpoints import CARD, load_checkpoint
from advalign.settings import EvaluateSettings, Settings, Strict, parse
from advalign.strict_files import read_yaml

IMAGES, SWAPPED = "cifar", "cifar-swapped"  # image sets
STANDARD = "baseline"  # the recipe of the paper's standard training
MEASURES = {  # image set, attack or probe -> column: name of its number in a summary
    (IMAGES, "predictions"): {"clean_accuracy": "top1_accuracy", "ece": "expected_calibration_error"},
    (SWAPPED, "predictions"): {"swapped_accuracy": "top1_accuracy"},
    (IMAGES, "fgsm"): {"fgsm_accuracy": "robust_accuracy"},
    (IMAGES, "pgd"): {
        "pgd_accuracy": "robust_accuracy",
        "pgd_low": "robust_accuracy_ci_low",
        "pgd_high": "robust_accuracy_ci_high",
        "attack_success": "attack_success_rate",
    },
}
TITLES = {"table1": "Table 1: standard training", "table2": "Table 2: robustness within linf 8/255"}
TABLES = {  # table -> its columns in order, and whether the paper prints them
    "table1": {"clean_accuracy": True, "ece": True, "parameters": True, "hours": True},
    "table2": {
        "clean_accuracy": True, "fgsm_accuracy": True, "pgd_accuracy": True, "pgd_low": False, "pgd_high": False,
        "attack_success": True, "swapped_accuracy": False,
    },
}  # fmt: skip
ENDING = "_published"
DRAWN = "The images are drawn (docs/cifar.md), not CIFAR-10's: measured and published values are of different images."
UNTIMED = "Hours of training are no part of a result here: MLflow has the begin and the end of each run."


class PublishedValues(Strict):
    """What the paper prints of one model; None where it prints nothing."""

    clean_accuracy: float = Field(ge=0, le=1)
    fgsm_accuracy: float = Field(ge=0, le=1)
    pgd_accuracy: float = Field(ge=0, le=1)
    attack_success: float = Field(ge=0, le=1, description="of PGD: (clean - pgd) / clean")
    ece: float | None = Field(None, ge=0, le=1)
    parameters: float | None = Field(None, gt=0, description="millions")
    hours: float | None = Field(None, gt=0, description="of training")


class Publication(Strict):
    """All of registry/published/kannappan2025.yaml."""

    source: str
    models: dict[str, PublishedValues] = Field(min_length=1)


def read_publication(path: Path) -> Publication:
    """Read the published values.

    Raises:
        InputError: missing, broken YAML, an unknown key, or a value out of range.
    """
    try:
        return parse(Publication, read_yaml(path), str(path))
    except FileNotFoundError:
        raise InputError(f"{path} is missing: it has the published values; restore it from git") from None


def robustsight_tables(project: Project, settings: Settings) -> tuple[dict[str, pd.DataFrame], list[str]]:
    """Both tables, from the evaluations under the protocols of params.yaml.

    Args:
        project: owner of the evaluations and of registry/published.
        settings: `evaluate.protocol` and `evaluate.also` name the protocols; `MEASURES` says which of them count.

    Returns:
        "table1" and "table2": a row per model, measured or published, with the columns model, recipe, those of `TABLES`
        and, under the same names with `_published`, the printed values (NaN where there is none). And notes.

    Raises:
        InputError: no model is evaluated under one of the protocols, or nothing is evaluated on data/cifar.
        Damaged, CheckFailed: a result is damaged, or its numbers are not those of its rows.
    """
    published = read_publication(project.home / "registry" / "published" / "kannappan2025.yaml")
    measured = _measured(project, settings.evaluate)
    printed = {name: {f"{key}{ENDING}": value for key, value in values} for name, values in published.models.items()}
    rows = [
        {"recipe": name.rpartition(".")[2], **printed.get(name, {}), **measured.get(name, {}), "model": name}
        for name in sorted({*measured, *published.models})
    ]
    whole = pd.DataFrame(rows)
    tables = {}
    for name, told in TABLES.items():
        pairs = [[key, f"{key}{ENDING}"] if is_printed else [key] for key, is_printed in told.items()]
        columns = ["model", "recipe", *(column for pair in pairs for column in pair)]
        tables[name] = whole.reindex(columns=columns)
    tables["table1"] = tables["table1"][whole["recipe"] == STANDARD].drop(columns="hours").reset_index(drop=True)
    return tables, [f"Published: {published.source}.", *_notes(project)]


def _measured(project: Project, evaluate: EvaluateSettings) -> dict[str, dict[str, Any]]:
    """Model -> its recipe and its numbers by column."""
    found: dict[str, dict[str, Any]] = {}
    for name in dict.fromkeys((evaluate.protocol, *evaluate.also)):
        spec = protocol(name, evaluate.protocols, evaluate.metrics or None).spec
        columns = MEASURES.get((spec.image_set, spec.attack or spec.probe), {})
        if not columns:
            continue
        for summary in evaluated(project, evaluate, name).summaries:
            numbers = {column: summary["metrics"].get(key) for column, key in columns.items()}
            found.setdefault(summary["model"], {"recipe": summary["recipe"]}).update(numbers)
    if not found:
        raise InputError(f"no protocol in evaluate.protocol and evaluate.also measures the image set {IMAGES}: add one")
    for model, numbers in found.items():
        numbers["parameters"] = _parameters(project, model)
    return found


def _parameters(project: Project, model: str) -> float:
    """Millions of trained values; NaN where the checkpoint is not there."""
    for place in (project.checkpoints, project.runs):
        if (place / model / CARD).is_file():
            classifier, _ = load_checkpoint(place / model)
            return sum(one.numel() for one in classifier.parameters()) / 1e6
    return math.nan


def _notes(project: Project) -> list[str]:
    images = open_set(IMAGES, project)
    drawn = bool((images.listing()["cue"] >= 0).any())
    return [*([DRAWN] if drawn else []), *(f"{told[0].upper()}{told[1:]}." for told in images.absent()), UNTIMED]


def write_tables(folder: Path, tables: Mapping[str, pd.DataFrame], notes: list[str]) -> str:
    """Write both tables into a folder, as CSV and together as Markdown, and their numbers for `dvc metrics show`.

    Returns:
        The Markdown.
    """
    for name, table in tables.items():
        with replacing(folder / f"{name}.csv") as temporary:
            table.to_csv(temporary, index=False, float_format="%.6g")
    text = "\n".join([*(_markdown(TITLES[name], table) for name, table in tables.items()), *notes, ""])
    write_text((folder / "tables").with_suffix(".md"), text)
    kept = tables["table2"].set_index("model")[list(TABLES["table2"])].dropna(how="all")
    told = {model: row.dropna().to_dict() for model, row in kept.iterrows()}
    write_text(folder / "metrics" / "robustsight.json", json.dumps(told, indent=1) + "\n")
    return text


def _markdown(title: str, table: pd.DataFrame) -> str:
    """A table of Markdown; numbers with three decimals, a dash where there is none."""

    def cell(value: object) -> str:
        if isinstance(value, float):
            return "–" if math.isnan(value) else f"{value:.3f}"
        return str(value)

    headings = [str(column).replace(ENDING, ", published").replace("_", " ") for column in table]
    lines = [headings, ["---"] * len(headings), *([cell(value) for value in row] for row in table.to_numpy().tolist())]
    return "\n".join([f"## {title}", "", *("| " + " | ".join(line) + " |" for line in lines), ""])
