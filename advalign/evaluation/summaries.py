"""The numbers of a summary, computed from rows: when it is written, and again wherever its numbers decide something."""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from advalign.data.results import read_rows, stored_identity
from advalign.errors import CheckFailed
from advalign.evaluation.protocols import protocol
from advalign.files import sha256
from advalign.metrics.base import Evaluation
from advalign.probes.base import Probe
from advalign.seals import is_whole
from advalign.settings import EvaluateSettings

ROUNDING = 1e-9  # relative; machines add up in different orders


class Outdated(CheckFailed):
    """A summary is of earlier rows: a companion's rows, which several protocols share, were computed again since."""


def metrics_of(
    probe: Probe, rows: Path, human_ceiling: float | None, resamples: int, seed: int
) -> dict[str, float | None]:
    """Numbers over a model's rows under one protocol.

    Args:
        probe: the protocol's.
        rows: the file of rows.
        human_ceiling: of the image set; None without human maps.
        resamples, seed: of bootstrap intervals.

    Returns:
        Name -> number; None where there is nothing to average.
    """
    ceiling = math.nan if human_ceiling is None else human_ceiling
    found = probe.summarise(Evaluation(read_rows(rows), ceiling, resamples, seed))
    return {name: None if math.isnan(value) else value for name, value in found.items()}


def checked_metrics(
    summary: Mapping[str, Any], rows: Callable[[str], Path], evaluate: EvaluateSettings
) -> dict[str, float | None]:
    """The numbers of a summary, computed from its rows now.

    Args:
        summary: of a model.
        rows: protocol -> file of the model's rows under it.
        evaluate: settings: declared protocols, and the metrics that are asked for.

    Returns:
        Name -> number, of the metrics that the summary has.

    Raises:
        Damaged: the rows are.
        Outdated: rows were computed again since, from other inputs (the model was trained again, say).
        CheckFailed: the rows are not those that were summarised, or give other numbers than the summary.
    """
    for name, part in _parts(summary).items():
        if sha256(rows(name)) != part["rows_sha256"]:
            later = part is not summary and _are_of_other_inputs(rows(name), summary["model"], part["inputs_sha256"])
            kind = Outdated if later else CheckFailed
            raise kind(f"{rows(name)} is not the one that was summarised: {_again(summary)}")
    found, told = computed_metrics(summary, rows, evaluate), summary["metrics"]
    wrong = next((name for name, value in found.items() if not _equal(value, told[name])), None)
    if wrong is not None:
        raise CheckFailed(
            f"{summary['model']} under {summary['protocol']}: its rows give {wrong} {found[wrong]}, its summary says "
            f"{told[wrong]}: {_again(summary)}"
        )
    return found


def _are_of_other_inputs(rows: Path, model: str, identity: str) -> bool:
    """Whether a file holds rows of the model that were computed from other inputs than the identity's."""
    return is_whole(rows) and stored_identity(rows) != identity and {*read_rows(rows)["model"]} == {model}


def computed_metrics(
    summary: Mapping[str, Any], rows: Callable[[str], Path], evaluate: EvaluateSettings
) -> dict[str, float | None]:
    """The numbers of a summary's metrics that its rows give.

    Args, Returns: as `checked_metrics`.
    """
    found: dict[str, float | None] = {}
    for name, part in _parts(summary).items():
        probe = protocol(name, evaluate.protocols, evaluate.metrics or None).probe
        found |= metrics_of(probe, rows(name), part["human_ceiling"], summary["bootstrap"], summary["seed"])
    return {name: found[name] for name in summary["metrics"] if name in found}


def setting_of(summary: Mapping[str, Any]) -> dict[str, object]:
    """What must be the same of two models' results that are compared."""
    same = ("protocol_sha256", "code_sha256", "stimuli_sha256", "n_stimuli", "human_ceiling", "data_sha256")
    companions = {
        name: [part.get(key) for key in ("protocol_sha256", "code_sha256", "human_ceiling", "about")]
        for name, part in sorted(summary["companions"].items())
    }
    return {
        **{key: summary[key] for key in same},
        "about": summary.get("about"),
        "search_precision": summary["tasks"]["search_precision"],
        "companions": companions,
    }


def _parts(summary: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Protocol -> what the summary says of its rows: its own protocol, and companions."""
    return {summary["protocol"]: summary, **summary["companions"]}


def _again(summary: Mapping[str, Any]) -> str:
    command = f"advalign evaluate {summary['model']} --protocol {summary['protocol']}"
    return f"run `{command}` again (a trial with its --limit), and `advalign publish`"


def _equal(one: float | None, other: float | None) -> bool:
    if one is None or other is None:
        return one is other
    return math.isclose(one, other, rel_tol=ROUNDING, abs_tol=ROUNDING)
