"""What rows are made of: the statuses and columns that several files name, and how a number over rows is described.

The descriptors of the house's own metrics are in `vocabulary`.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

STIMULUS, STATUS = "stimulus", "status"
CLEAN_PREDICTION = "clean_prediction"
NORM = "norm_l2"  # of the smallest perturbation found; l2, stimulus space, pixels in [0, 1]
NORM_LINF = "norm_linf"  # the same under attacks on linf
NORMS = {"l2": NORM, "linf": NORM_LINF}
LARGEST_TRIED = "largest_tried"  # largest l2 norm at which the model was queried: what a failed search says
QUERIES = "queries"  # forward passes spent on the item
FLAGS = "flags"  # sanity flags of the model, joined by commas
RHO = "rho_released"  # rank correlation in [-1, 1] of perturbation map (as the released code makes it) and human map
RHO_MAGNITUDE = "rho_magnitude"  # the same with magnitude maps

OF_CEILING = "share of the human ceiling"
"""Unit of a metric that is divided by the human ceiling, while its column is not."""


class Status(StrEnum):
    """What became of one stimulus."""

    OK = "ok"
    MISCLASSIFIED_CLEAN = "misclassified_clean"
    ATTACK_FAILED = "attack_failed"


@dataclass(frozen=True)
class Descriptor:
    """How one number over a model's rows is called, and how it is read.

    A name with `{}` in it stands for a family: `robust_accuracy_eps{}` is `robust_accuracy_eps0.25` and all others.

    Attributes:
        name: its key in a summary, such as "perturbation_tolerance".
        short: its key in MLflow, and its column of zoo.csv where it has one: "pt".
        label: heading of a table: "PT".
        unit: what it counts in, such as "l2 norm" or "share" (in [0, 1]).
        better: which direction is good; None where neither is.
        column: of the rows, whose values can be tested image by image; None where there is none.
        title: how figures call it, with unit; empty where no figure shows it.
    """

    name: str
    short: str
    label: str
    unit: str
    better: Literal["higher", "lower"] | None = None
    column: str | None = None
    title: str = ""
