"""Evaluations on disk as statistics read them: results that can be compared, with numbers computed from their rows."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from advalign.data.results import Paths, read_summaries
from advalign.evaluation.protocols import Protocol, protocol
from advalign.evaluation.summaries import Outdated, checked_metrics, setting_of
from advalign.files import Project
from advalign.settings import EvaluateSettings
from advalign.strict_files import read_json

DIFFERENCES = {
    "stimuli_sha256": "evaluated on other stimuli",
    "n_stimuli": "evaluated on another number of stimuli",
    "human_ceiling": "divided by another human ceiling",
    "data_sha256": "evaluated on other data",
    "protocol_sha256": "attacked with other settings",
    "about": "compared with other responses",
    "code_sha256": "evaluated by other code",
    "search_precision": "attacked in another precision",
    "companions": "evaluated with other companions",
}
"""What must be the same of all models in one table (keys of `setting_of`), and what is said where it is not."""
SHARED = ("stimuli_sha256", "n_stimuli", "human_ceiling", "data_sha256")
"""What must also be the same of the results of two protocols that are set side by side."""


@dataclass(frozen=True)
class Evaluated:
    """The evaluations under one protocol.

    Attributes:
        summaries: of the models that can be compared; `metrics` are computed from the rows.
        left_out: rows of protocol, model and why: models that cannot be compared with them.
    """

    summaries: list[dict[str, Any]]
    left_out: list[dict[str, str]]


def evaluated(
    project: Project, evaluate: EvaluateSettings, name: str, wanted: Mapping[str, object] | None = None
) -> Evaluated:
    """Read the evaluations under a protocol: the largest group of models with one setting.

    Args:
        project: owner of the results.
        evaluate: settings: declared protocols and metrics.
        name: of the protocol; of a trial with the number of items.
        wanted: values that the setting must have (keys of `DIFFERENCES`), such as those of another protocol's results.

    Raises:
        InputError: there are none.
        Damaged, CheckFailed: a summary or its rows are damaged, or do not belong together.
    """
    summaries, wanted = read_summaries(project, name), dict(wanted or {})
    settings = [setting_of(summary) for summary in summaries]
    groups = Counter(repr(one) for one in settings if wanted.items() <= one.items())
    largest = max(groups, key=groups.__getitem__, default="")  # of equally large ones the first, by name
    shown = next((one for one in settings if repr(one) == largest), wanted)
    chosen, left_out = [], []
    for summary, setting in zip(summaries, settings, strict=True):
        paths = Paths(project.evaluations / name, summary["model"])
        differing = [key for key in DIFFERENCES if key in shown and setting[key] != shown[key]]
        if differing:
            why = f"{DIFFERENCES[differing[0]]} than the other models: {paths.mend}"
            left_out.append({"protocol": name, "model": summary["model"], "why": why})
            continue
        try:
            chosen.append({**summary, "metrics": checked_metrics(summary, paths.rows_under, evaluate)})
        except Outdated:
            why = f"evaluated again since under another protocol: {paths.mend}"
            left_out.append({"protocol": name, "model": summary["model"], "why": why})
    return Evaluated(chosen, left_out)


def each_protocol(
    project: Project, evaluate: EvaluateSettings, asked: Callable[[Protocol], bool] = lambda _: True
) -> Iterator[tuple[Protocol, Evaluated]]:
    """Those protocols of `evaluate.protocol` and `evaluate.also` that are asked for, each with its evaluations.

    Raises:
        InputError, Damaged, CheckFailed: as `evaluated`.
    """
    for name in dict.fromkeys((evaluate.protocol, *evaluate.also)):
        one = protocol(name, evaluate.protocols, evaluate.metrics or None)
        if asked(one):
            yield one, evaluated(project, evaluate, name)


def unmeasured(project: Project, protocol: str, models: Iterable[str]) -> list[dict[str, str]]:
    """Models whose evaluation under a protocol failed, or left them out: rows of protocol, model and why.

    Args:
        project: owner of the results.
        protocol: its name.
        models: the ones that are asked about.
    """
    found = []
    for model in models:
        record = Paths(project.evaluations / protocol, model).failure
        if record.is_file():
            found.append({"protocol": protocol, "model": model, "why": str(read_json(record)["error"])})
    return found
