"""Suites of expectations on the frozen stimuli, their human maps and the validation labels.

A suite is a function from the module `great_expectations.expectations` to a list of expectations, so that Great
Expectations (seconds to import) is imported only where a table is checked.
"""

import math
from collections.abc import Callable, Iterable
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from advalign.data.classes import DECISIONS, Classes
from advalign.data.imagenet import read_validation
from advalign.data.sets.stimuli import PEOPLE, StimulusSet
from advalign.files import Project
from advalign.rows import NORMS
from advalign.settings import Settings
from advalign.tensors.heatmaps import min_max_scale

Tables = dict[str, tuple[pd.DataFrame, Callable[[Any], list[Any]]]]  # name -> the table and its suite

MEANINGS = {
    "range": "largest minus smallest value of the map, of 255",
    "coverage": "share of the map above a tenth of its maximum",
    "peak_share": "share of the map above half of its maximum",
    "entropy": "how widely the map is spread, from 0 (one pixel) to 1 (uniform)",
    "overlap": "classes that the multi-label set calls both correct and wrong",
    "correct_labels": "classes that people accept for an image that is not flagged",
    "sha256": "of the image: the same image twice",
    "stimuli": "stimuli per superclass",
    **dict.fromkeys(
        NORMS.values(), "size of the perturbation that flips the decision; present exactly where the status is ok"
    ),
    "second_start": "norm of the second best start of the search, relative to the best: at least 1",
    "unpaired": "x coordinates of the trial without a y, or the other way round",
    "not_finite": "clicks of the trial that are not finite numbers",
    "nameless": "whether the trial has no participant",
    "clicks": "clicks of the trial",
    "catch": "share of catch trials that the participant passed",
    "outside": "mean share of a trial's clicks that lie outside its image: is it the image as people saw it?",
    "empty": "share of the trials without clicks",
    "repeated": "share of the trials that are not their participant's first on the image",
    "known": "whether images.parquet has the image",
    "trials": "trials on the image",
    "contrast": "standard deviation of the pixels, from 0 to 1: a constant image",
    "mask_share": "share of the image that its mask covers",
    "in_train": "whether the image is also a training image",
    "agrees": "whether the background is that of the image's own class",
    "same_pixels": "whether the swap changed nothing",
    "same_cue": "whether the background is the one it had",
    "ceiling": "rank correlation of two halves of the people, from -1 to 1",
    "floor": "rank correlation of two halves of the people who saw different images, from -1 to 1",
    "human_floor": "what people agree on, as the manifest has it",
    "by_image_off": "how far the rank correlation divided by the image's own ceiling is off: 0",
    "auc_released": "chance that a pixel that people look at is perturbed more than another one",
    "nss_released": "perturbation where people look, in standard deviations",
    "emd_released": "distance between perturbation and human map, in shares of the side",
    "missing_columns": "columns that the rows lack",
    "label_in_manifest": "whether the manifest has the stimulus",
    "label_in_split": "whether the split has the image",
    "norm": "size of the perturbation that flips the decision; present exactly where the status is ok",
    "file_sha256": "of the image file: 64 hexadecimal digits; missing: unknown",
    "roi": "area of the unit",
    "noise_ceiling": "share of the variance of the unit's average responses that is no noise, from 0 to 1",
    "missing": "share of the trials in which the unit has no response: it has none at all",
    "infinite": "responses that are infinite",
    "spread": "largest minus smallest response of the unit, or dissimilarity of the matrix: all are the same",
    "repeat": "which presentation of the image to its subject it is, from 0",
    "split": "0 train, 1 validation, 2 test",
    "responding": "units that have a response in the trial",
    "lead": "probability of the predicted class minus that of the label: at least 0",
    "lead_where_right": "the same where the prediction is the label: 0",
}
"""What columns mean, for readers of a failure."""
MAPS_AT_ONCE = 32  # maps whose entropy is taken together, in float64
# Bounds of a map's spread: the share of the pixels over which a flat map of the same entropy would lie, so that entropy
# is 1 + log(spread) / log(pixels). The sample's 144 maps (64 x 64): 0.075 to 0.59 (entropy 0.690 to 0.937); five real
# ClickMe maps: 0.16 to 0.39. One click (21 of 256 pixels a side, blurred): 0.01; uniform noise: 0.82; a uniform map
# with JPEG noise: over 0.999.
LEAST_SPREAD, GREATEST_SPREAD = 0.025, 0.78


def stimulus_tables(project: Project, settings: Settings, classes: Classes, stimuli: StimulusSet) -> Tables:
    """The tables `manifest`, `superclasses`, `maps` (where the stimuli have maps) and `labels`, with their suites.

    Raises:
        DataError: the validation images' labels are missing or unreadable.
    """
    people = PEOPLE if stimuli.has_people else ()
    tables: Tables = {
        "manifest": (stimuli.manifest, lambda gxe: manifest_suite(gxe, settings, classes, people)),
        "superclasses": (superclass_table(stimuli.manifest), lambda gxe: superclass_suite(gxe, settings)),
    }
    if has_maps(stimuli, settings):
        count = stimuli.map_pixels[0].numel()
        maps = map_table(stimuli.manifest["stimulus"], stimuli.map_pixels)
        tables["maps"] = (maps, lambda gxe: map_suite(gxe, count))
    judged = (project.data / "imagenet" / "multilabel.json").is_file()
    tables["labels"] = (label_table(project, classes), lambda gxe: label_suite(gxe, len(classes), judged=judged))
    return tables


def has_maps(stimuli: StimulusSet, settings: Settings) -> bool:
    """Whether the stimuli come with human maps: those drawn from validation images do not (all zero).

    All-zero maps of stimuli that should have maps are a fault, which `map_suite` reports.
    """
    return settings.stimuli.split != "imagenet" or stimuli.has_maps


def superclass_table(manifest: pd.DataFrame) -> pd.DataFrame:
    """Number of stimuli per superclass."""
    return manifest.groupby("superclass").size().rename("stimuli").reset_index()


def superclass_suite(gxe: Any, settings: Settings) -> list[Any]:
    """Superclasses are equally large."""
    wanted = settings.stimuli.categories_per_superclass * settings.stimuli.images_per_category
    return [gxe.ExpectColumnValuesToBeBetween(column="stimuli", min_value=wanted, max_value=wanted)]


def map_table(stimuli: "pd.Series[str]", pixels: Tensor) -> pd.DataFrame:
    """Statistics per human map.

    Args:
        stimuli: (N) names.
        pixels: (N, H, W) uint8, before min-max scaling.

    Returns:
        stimulus; range (largest minus smallest value, of 255); coverage and peak_share (share of pixels above a tenth
        and above half of the maximum, after min-max scaling); entropy (see `map_entropy`).
    """
    raw, scaled = pixels.flatten(1), min_max_scale(pixels.float()).flatten(1)
    return pd.DataFrame(
        {
            "stimulus": stimuli,
            "range": (raw.amax(1).float() - raw.amin(1).float()).numpy(),
            "coverage": (scaled > 0.1).float().mean(1).numpy(),
            "peak_share": (scaled > 0.5).float().mean(1).numpy(),
            "entropy": map_entropy(pixels).numpy(),
        }
    )


def map_entropy(pixels: Tensor) -> Tensor:
    """Shannon entropy in bits of each map taken as a distribution over pixels, as a share of its largest value.

    The map is normalised to sum 1 and the entropy divided by log2 of the number of pixels, so that it lies in [0, 1]:
    0 when all weight is on one pixel, 1 when every pixel weighs the same (an all-zero map does, too).

    Args:
        pixels: (N, H, W), values of any scale from 0 up.

    Returns:
        (N,) float64.

    >>> map_entropy(torch.tensor([[[9, 0], [0, 0]], [[5, 5], [0, 0]], [[7, 7], [7, 7]], [[0, 0], [0, 0]]])).tolist()
    [0.0, 0.5, 1.0, 1.0]
    """
    count = pixels[0].numel() if len(pixels) else 1
    shares = [torch.zeros(0, dtype=torch.float64)]
    for start in range(0, len(pixels), MAPS_AT_ONCE):
        weights = pixels[start : start + MAPS_AT_ONCE].flatten(1).double()
        total = weights.sum(1, keepdim=True)
        weights = torch.where(total > 0, weights / total, 1.0 / count)
        shares.append(torch.special.entr(weights).sum(1) / math.log(count))
    return torch.cat(shares)


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


def manifest_suite(gxe: Any, settings: Settings, classes: Classes, people: Iterable[str] = ()) -> list[Any]:
    """Stimuli are unique, known, balanced over superclasses, and half animate; and ceilings are possible if known.

    Args:
        gxe: the module `great_expectations.expectations`.
        settings, classes: of the project.
        people: columns with what people agree on, where any is known.
    """
    wanted = settings.stimuli
    superclasses = sorted({entry.superclass for entry in classes.entries if entry.superclass is not None})
    total = len(superclasses) * wanted.categories_per_superclass * wanted.images_per_category
    animate = {entry.superclass for entry in classes.entries if entry.animate} & set(superclasses)
    share = len(animate) / len(superclasses)
    columns = ["stimulus", "class_index", "wnid", "category", "superclass", "animate", "label", "source", "sha256"]
    known = [*people]
    return [
        gxe.ExpectTableColumnsToMatchSet(column_set=[*columns, *known], exact_match=True),
        *(gxe.ExpectColumnValuesToBeBetween(column=name, min_value=-1, max_value=1) for name in known),
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


def map_suite(gxe: Any, pixels: int) -> list[Any]:
    """Maps of `pixels` pixels are not constant, empty, everywhere, a single click or uniform."""
    least, greatest = (1 + math.log(spread) / math.log(pixels) for spread in (LEAST_SPREAD, GREATEST_SPREAD))
    return [
        gxe.ExpectColumnValuesToBeUnique(column="stimulus"),
        gxe.ExpectColumnValuesToBeBetween(column="range", min_value=1),
        gxe.ExpectColumnValuesToBeBetween(column="coverage", min_value=0.005, max_value=0.9),
        gxe.ExpectColumnValuesToBeBetween(column="peak_share", min_value=0.0005, max_value=0.5),
        gxe.ExpectColumnValuesToBeBetween(column="entropy", min_value=least, max_value=greatest),
        gxe.ExpectColumnMeanToBeBetween(column="coverage", min_value=0.02, max_value=0.8),
    ]


def label_suite(gxe: Any, classes: int, *, judged: bool = True) -> list[Any]:
    """Labels are known and not contradictory; every judged image without a correct label is flagged."""
    known = [
        gxe.ExpectTableRowCountToBeBetween(min_value=1),
        gxe.ExpectColumnValuesToBeUnique(column="image"),
        gxe.ExpectColumnValuesToBeBetween(column="label", min_value=0, max_value=classes - 1),
    ]
    if not judged:
        return known
    unflagged = gxe.row_conditions.Column("problematic") == False  # noqa: E712  a condition on the column
    return [
        *known,
        gxe.ExpectColumnValuesToBeBetween(column="overlap", max_value=0),
        gxe.ExpectColumnValuesToBeBetween(column="correct_labels", min_value=1, row_condition=unflagged),
    ]
