"""Statuses and columns of rows that several files name, and the descriptor of a number over rows.

The descriptors of the project's own metrics are in `vocabulary`.
"""

import re
from collections.abc import Container
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

STIMULUS, STATUS = "stimulus", "status"
CLEAN_PREDICTION = "clean_prediction"
NORM = "norm_l2"  # of the smallest perturbation found; l2, stimulus space, pixels in [0, 1]
NORM_LINF = "norm_linf"  # the same under attacks on linf
NORMS = {"l2": NORM, "linf": NORM_LINF}
SCALES = {"l2": 1.0, "linf": 255.0}
"""Norm -> what a norm in rows is multiplied by in numbers, tables and figures: linf is given in 1/255."""
LARGEST_TRIED = (
    "largest_tried"  # the largest norm at which the model was queried: a lower bound where the search failed
)
SECOND_START = "second_start"  # norm of the second best of a search's starts, relative to the best: at least 1
AGREE = 1.03  # the two best starts agree up to here
AUDIT = "audit"  # 1 where a second attack found a smaller perturbation, 0 where it found none
QUERIES = "queries"  # forward passes spent on the item
TASK = "task"  # first item of the task that computed the row
BATCH_SIZE = "batch_size"  # most images in one pass where memory was short; empty: as settings and attack say
FLAGS = "flags"  # sanity flags of the model, joined by commas
RHO = "rho_released"  # rank correlation in [-1, 1] of perturbation map (as the released code makes it) and human map
RHO_MAGNITUDE = "rho_magnitude"  # the same with magnitude maps
AUC = "auc_released"  # of the same two maps: chance in [0, 1] that one of the most human pixels is perturbed more
NSS = "nss_released"  # the perturbation there, in standard deviations of its map
EMD = "emd_released"  # earth mover's distance in shares of the side
HUMAN_CEILING = "human_ceiling"  # rho in [-1, 1] between the maps of two halves of the people who saw the image
HUMAN_CEILING_CORRECTED = "human_ceiling_corrected"  # the same, corrected to the full number of people (Spearman-Brown)
HUMAN_FLOOR = "human_floor"  # rho of a half's map and a half's map of another image
HUMAN_SPAN = "human_span"  # mean ceiling minus mean floor of the whole set; an extra of items, not a column
RHO_BY_IMAGE = "rho_by_image"  # rho_released divided by the image's own corrected ceiling
RHO_OVER_FLOOR = "rho_over_floor"  # rho_released minus the image's floor, divided by the set's span

ENDING = re.compile(r"(?P<stem>.+?)(?P<ending>_eps[\d.{}]+|_sem|_ci_low|_ci_high|\.\D.*|/\{\}|)")
"""A number's name without what follows the norm in it."""

OF_CEILING = "share of the human ceiling"
"""Unit of a metric that is divided by the human ceiling, while its column is not."""


class Status(StrEnum):
    """Outcome of an attack on one stimulus."""

    OK = "ok"
    MISCLASSIFIED_CLEAN = "misclassified_clean"
    ATTACK_FAILED = "attack_failed"


def norm_of(columns: Container[str]) -> str | None:
    """The norm that rows were attacked in, by their columns; None where they hold no norm.

    >>> norm_of(["stimulus", "status", "norm_linf"])
    'linf'
    """
    return next((norm for norm, column in NORMS.items() if column in columns), None)


def corrupted_prediction(corruption: str, severity: int) -> str:
    """The column of predictions under a corruption.

    >>> corrupted_prediction("fog", 3)
    'prediction_fog_3'
    """
    return f"prediction_{corruption}_{severity}"


def with_norm(name: str, norm: str) -> str:
    """A number's name where it was measured in a norm: l2 is not said.

    >>> [with_norm(name, "linf") for name in ("perturbation_tolerance", "pt_sem", "robust_accuracy_eps0.5")]
    ['perturbation_tolerance_linf', 'pt_linf_sem', 'robust_accuracy_linf0.5']
    >>> with_norm("adversarial_human_alignment.dog", "linf"), with_norm("pt_sem", "l2")
    ('adversarial_human_alignment_linf.dog', 'pt_sem')
    """
    if norm == "l2":
        return name
    found = ENDING.fullmatch(name)
    assert found is not None
    return f"{found['stem']}_{norm}{found['ending'].removeprefix('_eps')}"


@dataclass(frozen=True)
class Descriptor:
    """Names and meaning of one number over a model's rows.

    A name with `{}` in it describes a family: `robust_accuracy_eps{}` is `robust_accuracy_eps0.25` and all others.

    Attributes:
        name: its key in a summary, such as "perturbation_tolerance".
        short: its key in MLflow, and its column of zoo.csv where it has one: "pt".
        label: heading of a table: "PT".
        unit: of the number, such as "l2 norm" or "share" (in [0, 1]).
        better: the better direction; None where there is none.
        column: of the rows, with values that can be tested image by image; None where there is none.
        title: name in figures, with unit; empty where no figure shows the number.
        scale: what values of the column are multiplied by to have the unit.
    """

    name: str
    short: str
    label: str
    unit: str
    better: Literal["higher", "lower"] | None = None
    column: str | None = None
    title: str = ""
    scale: float = 1.0
