"""Evaluations on disk as statistics read them: results that can be compared, with numbers computed from their rows."""

from collections import Counter
from dataclasses import dataclass
from typing import Any

from advalign.data.results import Paths, read_summaries
from advalign.evaluation.summaries import checked_metrics
from advalign.files import Project
from advalign.settings import EvaluateSettings

SETTING = {
    "protocol_sha256": "attacked with other settings",
    "code_sha256": "evaluated by other code",
    "stimuli_sha256": "evaluated on other stimuli",
    "n_stimuli": "evaluated on another number of stimuli",
    "human_ceiling": "divided by another human ceiling",
    "data_sha256": "evaluated on other data",
}
"""What must be the same of all models in one table: keys of summaries, and what is said where they differ."""


@dataclass(frozen=True)
class Evaluated:
    """The evaluations under one protocol.

    Attributes:
        summaries: of the models that can be compared; `metrics` are computed from the rows.
        left_out: rows of model and why: models that cannot be compared with them.
    """

    summaries: list[dict[str, Any]]
    left_out: list[dict[str, str]]


def evaluated(project: Project, evaluate: EvaluateSettings, protocol: str) -> Evaluated:
    """Read the evaluations under a protocol: the largest group of models with one setting (`SETTING`).

    Raises:
        InputError: there are none.
        Damaged, CheckFailed: a summary or its rows are damaged, or do not belong together.
    """
    summaries = read_summaries(project, protocol)
    groups = Counter(_setting(summary) for summary in summaries)
    largest = max(groups, key=groups.__getitem__)  # of equally large ones the first, by name
    chosen, left_out = [], []
    for summary in summaries:
        differing = [key for key, one, other in zip(SETTING, _setting(summary), largest, strict=True) if one != other]
        if differing:
            why = f"{SETTING[differing[0]]} than the other models: `advalign evaluate {summary['model']}` again"
            left_out.append({"model": summary["model"], "why": why})
            continue
        rows = Paths(project.evaluations / protocol, summary["model"]).rows_under
        chosen.append({**summary, "metrics": checked_metrics(summary, rows, evaluate)})
    return Evaluated(chosen, left_out)


def _setting(summary: dict[str, Any]) -> tuple[object, ...]:
    return tuple(summary.get(key) for key in SETTING)
