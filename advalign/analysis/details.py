"""What a comparison says of its models in words and single numbers: facts, details and estimates."""

from typing import Any

import pandas as pd

from advalign import provenance
from advalign.files import Project
from advalign.rows import STATUS, Status
from advalign.vocabulary import PAIRED, PLANE, UNITS, describe, in_norm, norm_measured

ESTIMATES = (
    "n_valid", "pt", "aa", "aligned_minus_shuffled", "alignment_shuffled", "alignment_given_centre",
    "energy_on_human_top10", "n_below_floor", "n_without_ceiling", "aa_auc", "aa_nss", "aa_emd",
)  # fmt: skip
"""Prefixes of the metrics in statistics.json: PT and AA in all their variants and norms, and what stands beside AA."""


def facts_of(
    project: Project, statistics: dict[str, Any], frames: dict[str, pd.DataFrame], summaries: list[dict[str, Any]]
) -> dict[str, str]:
    """Facts in the report's head: data, code, and what was left out.

    Args:
        project: owner of the results.
        statistics: with protocol and reference.
        frames: rows of each model.
        summaries: of the models.
    """
    data = sorted({summary["data_md5"] or "not tracked" for summary in summaries})
    ceiling = statistics["reference"]["human_ceiling"]
    commit, dirty = provenance.git_state(project.root)
    status = pd.concat([frame[STATUS] for frame in frames.values()])
    return {
        "protocol": f"{statistics['protocol']} ({UNITS[statistics['norm']]})",
        "stimuli": str(statistics["reference"]["n_stimuli"]),
        "human ceiling": f"{ceiling:.5f}" if ceiling else "none: the stimuli have no human maps",
        "rows (model, stimulus)": _counted(status),
        "data (DVC)": ", ".join(data),
        "code (git)": f"{commit}{' with changes' if dirty else ''}" if commit else "not under git",
    }


def details_of(summary: dict[str, Any], frame: pd.DataFrame) -> dict[str, str]:
    """Details of a model, shown when it is selected."""
    metrics, norm = summary["metrics"], norm_measured(summary["protocol_metrics"]) or "l2"
    pt, aa = in_norm("pt", norm), in_norm("aa", norm)
    beside = [in_norm(short, norm) for short in PAIRED if short not in PLANE]
    prefix = f"{aa.name}."
    known = {name.removeprefix(prefix): metrics[name] for name in metrics if name.startswith(prefix)}
    by_superclass = [f"{name} {value:.2f}" for name, value in known.items() if value is not None]
    shown = {
        "architecture, recipe": f"{summary['architecture']}, {summary['recipe']}",
        "stimuli": _counted(frame[STATUS]),
        f"{pt.label} (95 % interval)": _interval(metrics, pt.name),
        f"{aa.label} (95 % interval)": _interval(metrics, aa.name),
        **{f"{one.label} (95 % interval)": _interval(metrics, one.name) for one in beside},
        "AA controls": _controls(metrics, norm),
        "AA by superclass": ", ".join(by_superclass),
        "weights (SHA-256)": summary["weights_sha256"],
        "rows (SHA-256)": summary["rows_sha256"],
    }
    return {label: value for label, value in shown.items() if value}


def _controls(metrics: dict[str, float | None], norm: str) -> str:
    """The controls of centre bias, undivided by the ceiling."""
    shown = {
        "own minus other images' maps": "aligned_minus_shuffled",
        "given distance from the centre": "alignment_given_centre",
        "energy on the top 10 % of map pixels": "energy_on_human_top10",
    }
    values = {label: metrics.get(in_norm(name, norm).name) for label, name in shown.items()}
    return ", ".join(f"{label} {value:.3f}" for label, value in values.items() if value is not None)


def _counted(status: "pd.Series[str]") -> str:
    """Outcomes of a model's rows, in words: nothing is dropped silently."""
    counts = status.value_counts()
    wrong, failed = counts.get(Status.MISCLASSIFIED_CLEAN, 0), counts.get(Status.ATTACK_FAILED, 0)
    return (
        f"{counts.get(Status.OK, 0)} of {len(status)} valid; {wrong} wrong before the attack, {failed} attacks failed"
    )


def estimates_of(summary: dict[str, Any]) -> dict[str, Any]:
    """A model's headline numbers with SEM and bootstrap interval, and the controls of AA."""
    metrics = summary["metrics"]
    beginnings = tuple(describe(short).name for short in ESTIMATES)
    wanted = [name for name in metrics if name.startswith(beginnings) and "." not in name]
    return {"model": summary["model"], **{name: metrics[name] for name in wanted}}


def _interval(metrics: dict[str, float | None], name: str) -> str:
    values = [metrics.get(key) for key in (name, f"{name}_ci_low", f"{name}_ci_high")]
    if None in values:
        return ""
    return f"{values[0]:.3f} ({values[1]:.3f} to {values[2]:.3f})"
