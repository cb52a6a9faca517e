"""Declared expectations on stimuli, human maps and labels, checked by Great Expectations."""

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pandas as pd

from advalign.data.classes import DECISIONS, Classes, read_classes
from advalign.data.imagenet import read_validation
from advalign.data.stimuli import StimulusSet, load_stimuli
from advalign.files import Project, write_text
from advalign.settings import Settings

# the column that names a row of each table in a message
NAMED_BY = {"manifest": "stimulus", "maps": "stimulus", "labels": "image", "superclasses": "superclass"}
SHOWN = 5  # unexpected values listed per failure


@dataclass(frozen=True)
class Failure:
    """One expectation that does not hold."""

    table: str
    expectation: str
    column: str
    unexpected: int
    examples: tuple[str, ...]


@dataclass(frozen=True)
class Validation:
    """Result of all suites: how many expectations were checked per table, and which failed."""

    checked: dict[str, int]
    failures: tuple[Failure, ...]

    @property
    def success(self) -> bool:
        """Whether everything holds."""
        return not self.failures

    def as_metrics(self) -> dict[str, Any]:
        """Plain values for the JSON that DVC shows as a metric."""
        failed = {table: sum(f.table == table for f in self.failures) for table in self.checked}
        return {
            "success": int(self.success),
            **{table: {"checked": self.checked[table], "failed": failed[table]} for table in self.checked},
            "failures": [vars(failure) for failure in self.failures],
        }


def validate(project: Project, settings: Settings) -> Validation:
    """Check the frozen stimuli, their maps and the validation labels.

    Raises:
        DataError: something is missing or unreadable.
    """
    classes = read_classes(project.data / "classes.yaml")
    stimuli = load_stimuli(project)
    tables = {
        "manifest": (stimuli.manifest, lambda gxe: manifest_suite(gxe, settings, classes)),
        "superclasses": (superclass_table(stimuli), lambda gxe: superclass_suite(gxe, settings)),
        "maps": (map_table(stimuli), map_suite),
        "labels": (label_table(project, classes), lambda gxe: label_suite(gxe, len(classes))),
    }
    return check_tables(tables)


def superclass_table(stimuli: StimulusSet) -> pd.DataFrame:
    """Number of stimuli per superclass."""
    return stimuli.manifest.groupby("superclass").size().rename("stimuli").reset_index()


def superclass_suite(gxe: Any, settings: Settings) -> list[Any]:
    """Superclasses are equally large."""
    wanted = settings.stimuli.categories_per_superclass * settings.stimuli.images_per_category
    return [gxe.ExpectColumnValuesToBeBetween(column="stimuli", min_value=wanted, max_value=wanted)]


def map_table(stimuli: StimulusSet) -> pd.DataFrame:
    """Statistics per human map: values before scaling, share of pixels above a tenth and above half of the maximum."""
    raw, scaled = stimuli.map_pixels.flatten(1).float(), stimuli.heatmaps.flatten(1)
    return pd.DataFrame(
        {
            "stimulus": stimuli.manifest["stimulus"],
            "range": (raw.amax(1) - raw.amin(1)).numpy(),
            "coverage": (scaled > 0.1).float().mean(1).numpy(),
            "peak_share": (scaled > 0.5).float().mean(1).numpy(),
        }
    )


def label_table(project: Project, classes: Classes) -> pd.DataFrame:
    """One row per validation image: original label, number of correct labels, whether they hold the original one."""
    images = read_validation(project, classes)
    return pd.DataFrame(
        {
            "image": [image.path.name for image in images],
            "label": [image.label for image in images],
            "correct_labels": [len(image.labels.correct) for image in images],
            "problematic": [image.labels.problematic for image in images],
            "overlap": [len(image.labels.correct & image.labels.wrong) for image in images],
        }
    )


def manifest_suite(gxe: Any, settings: Settings, classes: Classes) -> list[Any]:
    """Stimuli are unique, known, balanced over superclasses, and half animate."""
    wanted = settings.stimuli
    superclasses = sorted({entry.superclass for entry in classes.entries if entry.superclass is not None})
    total = len(superclasses) * wanted.categories_per_superclass * wanted.images_per_category
    animate = {entry.superclass for entry in classes.entries if entry.animate} & set(superclasses)
    share = len(animate) / len(superclasses)
    columns = ["stimulus", "class_index", "wnid", "category", "superclass", "animate", "label", "source", "sha256"]
    return [
        gxe.ExpectTableColumnsToMatchSet(column_set=columns, exact_match=True),
        gxe.ExpectTableRowCountToEqual(value=total),
        gxe.ExpectColumnValuesToBeUnique(column="stimulus"),
        gxe.ExpectColumnValuesToBeUnique(column="sha256"),
        gxe.ExpectColumnValuesToNotBeNull(column="superclass"),
        gxe.ExpectColumnValuesToBeInSet(column="superclass", value_set=superclasses),
        gxe.ExpectColumnDistinctValuesToEqualSet(column="superclass", value_set=superclasses),
        gxe.ExpectColumnValuesToBeBetween(column="class_index", min_value=0, max_value=len(classes) - 1),
        gxe.ExpectColumnValuesToMatchRegex(column="wnid", regex=r"^n\d{8}$"),
        gxe.ExpectColumnValuesToMatchRegex(column="sha256", regex=r"^[0-9a-f]{64}$"),
        gxe.ExpectColumnValuesToBeInSet(column="label", value_set=list(range(len(DECISIONS)))),
        gxe.ExpectColumnMeanToBeBetween(column="label", min_value=share - 1e-9, max_value=share + 1e-9),
        gxe.ExpectColumnPairValuesToBeInSet(
            column_A="class_index",
            column_B="superclass",
            value_pairs_set=[(entry.index, entry.superclass) for entry in classes.entries if entry.superclass],
        ),
        gxe.ExpectColumnPairValuesToBeInSet(
            column_A="class_index",
            column_B="label",
            value_pairs_set=list(enumerate(classes.decision_of_class)),
        ),
        gxe.ExpectColumnUniqueValueCountToBeBetween(
            column="category", min_value=len(superclasses) * wanted.categories_per_superclass
        ),
    ]


def map_suite(gxe: Any) -> list[Any]:
    """Maps are not constant, neither empty nor everywhere."""
    return [
        gxe.ExpectColumnValuesToBeUnique(column="stimulus"),
        gxe.ExpectColumnValuesToBeBetween(column="range", min_value=1),
        gxe.ExpectColumnValuesToBeBetween(column="coverage", min_value=0.005, max_value=0.9),
        gxe.ExpectColumnValuesToBeBetween(column="peak_share", min_value=0.0005, max_value=0.5),
        gxe.ExpectColumnMeanToBeBetween(column="coverage", min_value=0.02, max_value=0.8),
    ]


def label_suite(gxe: Any, classes: int) -> list[Any]:
    """Labels are known and not contradictory; an image without a correct label is a flagged one, for almost all."""
    return [
        gxe.ExpectTableRowCountToBeBetween(min_value=1),
        gxe.ExpectColumnValuesToBeUnique(column="image"),
        gxe.ExpectColumnValuesToBeBetween(column="label", min_value=0, max_value=classes - 1),
        gxe.ExpectColumnValuesToBeBetween(column="overlap", max_value=0),
        gxe.ExpectColumnValuesToBeBetween(
            column="correct_labels", min_value=1, row_condition="problematic == False", condition_parser="pandas"
        ),
    ]


def check_tables(tables: "dict[str, tuple[pd.DataFrame, Callable[[Any], list[Any]]]]") -> Validation:
    """Check each table against its suite in an ephemeral context (nothing is written, nothing is sent).

    Args:
        tables: name -> (frame, function that builds expectations from the module `great_expectations.expectations`).
    """
    os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")
    import great_expectations as gx
    import great_expectations.expectations as gxe
    from great_expectations.data_context.types.base import ProgressBarsConfig

    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    source = context.data_sources.add_pandas("frames")
    checked, failures = {}, []
    for name, (frame, build) in tables.items():
        batch = source.add_dataframe_asset(name).add_batch_definition_whole_dataframe("all")
        suite = gx.ExpectationSuite(name=name, expectations=build(gxe))
        wanted = {"result_format": "COMPLETE", "unexpected_index_column_names": [NAMED_BY[name]]}
        result = batch.get_batch(batch_parameters={"dataframe": frame}).validate(suite, result_format=wanted)
        checked[name] = len(result.results)
        failures += [_failure(name, item) for item in result.results if not item.success]
    return Validation(checked, tuple(failures))


def _failure(table: str, item: Any) -> Failure:
    found, settings = item.result or {}, item.expectation_config.kwargs
    column = settings.get("column")
    raised = [info["exception_message"] for info in _exceptions(item.exception_info)]
    rows = [_named(row, column) for row in found.get("unexpected_index_list") or []]
    values = found.get("partial_unexpected_list") or [found.get("observed_value")]
    return Failure(
        table,
        item.expectation_config.type,
        column or ", ".join(str(settings[key]) for key in ("column_A", "column_B") if key in settings),
        int(found.get("unexpected_count") or 1),
        tuple(str(example) for example in (raised or rows or values)[:SHOWN]),
    )


def _exceptions(info: Any) -> list[dict[str, Any]]:
    """What was raised while checking: Great Expectations keeps it by the id of a metric."""
    return [entry for entry in (info or {}).values() if isinstance(entry, dict) and entry.get("raised_exception")]


def _named(row: dict[str, Any], column: str | None) -> str:
    """A failing row in words: its name, then the value that failed."""
    names = [str(value) for key, value in row.items() if key != column]
    return " ".join([*names, str(row[column])] if column in row else names)


def write_validation(project: Project, validation: Validation) -> None:
    """Write outputs/validation.json, the metric of the validate stage."""
    write_text(project.root / "outputs" / "validation.json", json.dumps(validation.as_metrics(), indent=1) + "\n")
