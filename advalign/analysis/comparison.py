"""The comparison of all evaluated models: zoo table, statistics, figures and report from results on disk."""

import base64
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jinja2 import Environment, FileSystemLoader
from matplotlib.figure import Figure
from safetensors.torch import load_file

from advalign.analysis.drawing import save
from advalign.analysis.figures import robust_accuracy_curves, twin_bars
from advalign.analysis.gallery import gallery_figure
from advalign.analysis.scatter import against_accuracy, pt_aa_plane
from advalign.analysis.twins import find_twins, paired_statistics
from advalign.analysis.zoo import plain, zoo_statistics
from advalign.data.results import Paths, read_summaries
from advalign.data.stimuli import StimulusSet, load_stimuli
from advalign.errors import InputError
from advalign.files import Project, replacing, write_text
from advalign.metrics.robust_accuracy import robust_accuracy
from advalign.models.declared import ZooEntry, read_zoo
from advalign.settings import Settings
from advalign.tensors.heatmaps import centred_gaussian
from advalign.tensors.ranks import rank_correlation

RECIPE_GROUPS = {"harmonized": "harmonized", "robust": "robust", "combined": "robust"}
COLUMNS = {
    "n_valid": "n_valid",
    "pt": "perturbation_tolerance",
    "pt_sem": "perturbation_tolerance_sem",
    "aa": "adversarial_human_alignment",
    "aa_sem": "adversarial_human_alignment_sem",
    "aa_raw": "adversarial_human_alignment_raw",
    "aligned_minus_shuffled": "aligned_minus_shuffled",
    "multilabel_accuracy": "multilabel_accuracy",
    "top1_accuracy": "top1_accuracy",
    "attack_success_rate": "attack_success_rate",
}
HEADLINES = ("pt", "aa", "multilabel_accuracy")
GALLERY_MODELS = 8  # rows of the printed gallery; each model's own gallery is in its MLflow run
CURVE_POINTS = 101


def group_of(architecture: str, recipe: str, zoo: dict[str, ZooEntry]) -> str:
    """Group of a trained model: its recipe's, or for a baseline its architecture's (registry/zoo.yaml).

    Raises:
        InputError: the architecture is not declared.
    """
    if recipe in RECIPE_GROUPS:
        return RECIPE_GROUPS[recipe]
    if architecture not in zoo:
        raise InputError(f"{architecture!r} is not declared in registry/zoo.yaml: add it there with its group")
    return zoo[architecture].group


def zoo_table(summaries: list[dict[str, Any]], zoo: dict[str, ZooEntry]) -> pd.DataFrame:
    """One row per model with the contract's columns (zoo.csv); accuracies are shares in [0, 1]."""
    rows = []
    for summary in summaries:
        architecture, recipe = summary["architecture"], summary["recipe"]
        row = {
            "model": summary["model"],
            "group": group_of(architecture, recipe, zoo),
            "recipe": recipe,
            "protocol": summary["protocol"],
            **{column: summary["metrics"].get(metric) for column, metric in COLUMNS.items()},
            "big_data": int(architecture in zoo and zoo[architecture].big_data),
        }
        row["n_valid"] = int(row["n_valid"] or 0)
        rows.append(row)
    return pd.DataFrame(rows)


def compare(project: Project, settings: Settings, protocol: str | None = None) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Compare all models evaluated under one protocol and write outputs/comparison.

    Args:
        project: whose results.
        settings: params.yaml.
        protocol: default: settings.evaluate.protocol.

    Returns:
        The zoo table and the statistics, as they are in zoo.csv and statistics.json.

    Raises:
        InputError: nothing is evaluated under the protocol.
    """
    protocol = protocol or settings.evaluate.protocol
    summaries = read_summaries(project, protocol)
    folder = project.evaluations / protocol
    table = zoo_table(summaries, read_zoo(project.zoo))
    frames = {name: pd.read_parquet(Paths(folder, name).rows) for name in table["model"]}
    stimuli = load_stimuli(project)
    ceiling = float(summaries[0]["human_ceiling"])
    twins = find_twins(table["model"])
    paired = paired_statistics(frames, twins, seed=settings.seed, resamples=settings.compare.bootstrap, ceiling=ceiling)
    statistics = zoo_statistics(table, paired)
    statistics["reference"] = {
        "human_ceiling": ceiling,
        "centred_gaussian_aa_raw": centre_bias(stimuli),
        "centred_gaussian_aa": centre_bias(stimuli) / ceiling,
        "n_stimuli": int(summaries[0]["n_stimuli"]),
    }
    figures = _figures(table, frames, twins, plain(paired), stimuli, folder)
    _write(project.comparison, table, statistics, figures)
    return table, statistics


def centre_bias(stimuli: StimulusSet) -> float:
    """Mean rank correlation of a fixed centred Gaussian with the human maps: what knowing only the centre earns."""
    maps = stimuli.heatmaps.flatten(1)
    height, width = stimuli.heatmaps.shape[1:]
    return float(rank_correlation(centred_gaussian(height, width).flatten().expand_as(maps), maps).mean())


def _figures(
    table: pd.DataFrame,
    frames: dict[str, pd.DataFrame],
    twins: list[tuple[str, str]],
    paired: list[dict[str, Any]],
    stimuli: StimulusSet,
    folder: Path,
) -> dict[str, Figure]:
    largest = max((float(frame["norm_l2"].max()) for frame in frames.values()), default=1.0)
    radii = np.linspace(0, largest if np.isfinite(largest) else 1.0, CURVE_POINTS)
    curves = {name: (radii, robust_accuracy(frame, radii)) for name, frame in frames.items()}
    groups = dict(zip(table["model"], table["group"], strict=True))
    return {
        "pt_aa_plane": pt_aa_plane(table, twins),
        "pt_against_accuracy": against_accuracy(table, "pt"),
        "aa_against_accuracy": against_accuracy(table, "aa"),
        "pt_twins": twin_bars(paired, "pt"),
        "aa_twins": twin_bars(paired, "aa"),
        "robust_accuracy": robust_accuracy_curves(curves, groups),
        "gallery": _gallery(list(table["model"])[:GALLERY_MODELS], stimuli, folder),
    }


def _gallery(models: list[str], stimuli: StimulusSet, folder: Path) -> Figure:
    found = {name: load_file(Paths(folder, name).gallery) for name in models}
    positions = sorted(int(key) for key in next(iter(found.values()))) if found else []
    deltas = {name: [kept[str(position)].numpy() for position in positions] for name, kept in found.items()}
    return gallery_figure(
        stimuli.images[positions].numpy(),
        stimuli.heatmaps[positions].numpy(),
        deltas,
        list(stimuli.manifest["category"].iloc[positions]),
    )


def _write(folder: Path, table: pd.DataFrame, statistics: dict[str, Any], figures: dict[str, Figure]) -> None:
    with replacing(folder / "zoo.csv") as temporary:
        table.to_csv(temporary, index=False, float_format="%.6g")
    write_text(folder / "statistics.json", json.dumps(statistics, indent=1) + "\n")
    for name in HEADLINES:  # one small file each, so that `dvc metrics show` is a table of metric by model
        values = dict(zip(table["model"], table[name], strict=True))
        write_text(folder / "metrics" / f"{name}.json", json.dumps(plain(values), indent=1) + "\n")
    for name, figure in figures.items():
        save(figure, folder / "figures" / f"{name}.png")
    write_text(folder / "report.html", _report(table, statistics, folder / "figures", list(figures)))


def _report(table: pd.DataFrame, statistics: dict[str, Any], folder: Path, figures: list[str]) -> str:
    environment = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True)
    pictures = {name: base64.b64encode((folder / f"{name}.png").read_bytes()).decode() for name in figures}
    rows = table.sort_values("pt", ascending=False).to_dict("records")
    return environment.get_template("report.html.j2").render(rows=rows, statistics=statistics, pictures=pictures)


def read_comparison(project: Project) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Read the last comparison: zoo table and statistics.

    Raises:
        InputError: there is none yet.
    """
    try:
        table = pd.read_csv(project.comparison / "zoo.csv")
        return table, json.loads((project.comparison / "statistics.json").read_text())
    except OSError:
        raise InputError("nothing is compared yet: run `advalign compare` (or `make repro`) first") from None
