"""The comparison of all evaluated models: zoo table, statistics, figures and report from results on disk."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from advalign import provenance, seals
from advalign.analysis.assembly import gallery_of, zoo_table
from advalign.analysis.drawing import draw, save
from advalign.analysis.evaluated import SHARED, evaluated
from advalign.analysis.figures import Curve
from advalign.analysis.gallery import gallery_figure
from advalign.analysis.protocols import compare_protocols
from advalign.analysis.report import DEFAULT_TRACKING, Material, Provenance, Tracking, render_report
from advalign.analysis.table import check_table
from advalign.analysis.twins import find_twins, paired_statistics
from advalign.analysis.zoo import plain, zoo_statistics
from advalign.data.results import Paths, read_rows
from advalign.data.sets.stimuli import StimulusSet, load_stimuli
from advalign.errors import InputError
from advalign.files import Project, replacing, sha256, write_text
from advalign.metrics.robust_accuracy import robust_accuracy
from advalign.models.declared import read_zoo
from advalign.rows import NORM, STATUS, Status
from advalign.settings import Settings
from advalign.tensors.heatmaps import centred_gaussian
from advalign.tensors.ranks import rank_correlation
from advalign.vocabulary import HEADLINES, describe

ESTIMATES = (
    "n_valid", "pt", "aa", "aligned_minus_shuffled", "alignment_shuffled", "alignment_given_centre",
    "energy_on_human_top10",
)  # fmt: skip
"""Prefixes of the metrics in statistics.json: PT and AA in all their variants, and AA's controls."""
GALLERY_MODELS = 8  # rows of the printed gallery
PICTURED_MODELS = 24  # models in the report's gallery, since the file contains their perturbations
CURVE_POINTS = 101
STATISTICS = "statistics.json"
HEADLINE = describe("pt").name  # metric of every protocol whose models can be compared


def compare(
    project: Project, settings: Settings, protocol: str | None = None, tracking: Tracking = DEFAULT_TRACKING
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Compare all models evaluated under one protocol and write outputs/comparison.

    Args:
        project: owner of the results.
        settings: params.yaml; protocols in `evaluate.also` are compared with the headline where they are evaluated.
        protocol: default: settings.evaluate.protocol.
        tracking: for the report's links.

    Returns:
        The zoo table and the statistics, as in zoo.csv and statistics.json.

    Raises:
        InputError: nothing is evaluated under the protocol.
        Damaged, CheckFailed: a result is damaged, or its numbers are not those of its rows.
    """
    protocol = protocol or settings.evaluate.protocol
    stimuli = load_stimuli(project)
    found = evaluated(project, settings.evaluate, protocol, {"stimuli_sha256": stimuli.digest})
    summaries = found.summaries
    if not summaries:
        raise InputError(
            f"no evaluation under {protocol!r} is of the stimuli in outputs/stimuli: run `advalign evaluate` again"
        )
    if not any(HEADLINE in summary["metrics"] for summary in summaries):
        raise InputError(
            f"protocol {protocol!r} measures no perturbation tolerance, by which models are compared: name one that "
            "searches for minimum norms, such as fmn-fast"
        )
    table = zoo_table(summaries, read_zoo(project.zoo)).assign(protocol=protocol)  # of a trial, with its size
    folder = project.evaluations / protocol
    frames = {name: read_rows(Paths(folder, name).rows) for name in table["model"]}
    twins = find_twins(table)
    ceiling: float | None = summaries[0]["human_ceiling"]  # None where the stimuli have no maps
    paired = paired_statistics(frames, twins, seed=settings.seed, resamples=settings.compare.bootstrap, ceiling=ceiling)
    statistics = zoo_statistics(table, paired)
    statistics["reference"] = _reference(stimuli, ceiling, summaries[0]["n_stimuli"])
    statistics["models"] = [_estimates(summary) for summary in summaries]
    statistics["setting"] = {key: summaries[0][key] for key in SHARED}
    tables, left_out = _tables(project, settings, protocol, table, statistics["setting"])
    statistics["left_out"] = [*found.left_out, *left_out]
    statistics["notes"] += [
        f"Left out: {one['model']} under {one['protocol']}, {one['why']}." for one in statistics["left_out"]
    ]
    statistics["notes"] += _trained_by_hand(summaries)
    statistics["protocols"] = plain(compare_protocols(tables))
    material = Material(
        check_table(table, "the evaluations"),
        statistics,
        twins,
        _curves(frames),
        {summary["model"]: _details(summary, frames[summary["model"]]) for summary in summaries},
        gallery_of(folder, _pictured(table, statistics), stimuli),
        Provenance(_facts(project, statistics, frames, summaries), tracking),
    )
    _write(project.comparison, table, material)
    return table, statistics


def compare_table(table: pd.DataFrame, output: Path | None, source: str) -> dict[str, Any]:
    """Statistics of any checked table of models; with `output`, also its figures and report.

    Args:
        table: from `table.read_table`.
        output: folder for zoo.csv, statistics.json, figures and report.html; None writes nothing.
        source: name of the table in the report.
    """
    statistics = zoo_statistics(table)
    if output is not None:
        twins = find_twins(table)
        facts = {"table": source, "protocol": statistics["protocol"] or "not stated in the table"}
        _write(output, table, Material(table, statistics, twins, provenance=Provenance(facts)))
    return statistics


def _trained_by_hand(summaries: list[dict[str, Any]]) -> list[str]:
    names = [summary["model"] for summary in summaries if summary["by_hand"]]
    return [f"Trained by hand (outputs/runs), not by the pipeline: {', '.join(names)}."] if names else []


def _reference(stimuli: StimulusSet, ceiling: float | None, count: int) -> dict[str, Any]:
    """What alignment is read against: the human ceiling, and the score of centre bias alone."""
    raw = centre_bias(stimuli) if ceiling else None
    return {
        "human_ceiling": ceiling,
        "centred_gaussian_aa_raw": raw,
        "centred_gaussian_aa": raw / ceiling if raw is not None and ceiling else None,
        "n_stimuli": int(count),
    }


def centre_bias(stimuli: StimulusSet) -> float:
    """Mean rank correlation of a fixed centred Gaussian with the human maps: the score of centre bias alone."""
    maps = stimuli.heatmaps.flatten(1)
    height, width = stimuli.heatmaps.shape[1:]
    return float(rank_correlation(centred_gaussian(height, width).flatten().expand_as(maps), maps).mean())


def _tables(
    project: Project, settings: Settings, protocol: str, table: pd.DataFrame, setting: dict[str, Any]
) -> tuple[dict[str, pd.DataFrame], list[dict[str, str]]]:
    """Zoo tables by protocol, the headline first, and models that cannot stand beside it; empty tables are left out."""
    zoo = read_zoo(project.zoo)
    tables, left_out = {protocol: table}, []
    for name in dict.fromkeys((settings.evaluate.protocol, *settings.evaluate.also)):
        if name not in tables and any((project.evaluations / name).glob("*.json")):
            found = evaluated(project, settings.evaluate, name, setting)
            left_out += found.left_out
            if found.summaries:
                tables[name] = zoo_table(found.summaries, zoo)
    return tables, left_out


def _curves(frames: dict[str, pd.DataFrame]) -> dict[str, Curve]:
    largest = np.nanmax([0.0, *(frame[NORM].max() for frame in frames.values())]) or 1.0
    radii = np.linspace(0, float(largest), CURVE_POINTS)
    return {name: (radii, robust_accuracy(frame, radii)) for name, frame in frames.items()}


def _facts(
    project: Project, statistics: dict[str, Any], frames: dict[str, pd.DataFrame], summaries: list[dict[str, Any]]
) -> dict[str, str]:
    """Facts in the report's head: data, code, and what was left out."""
    data = sorted({summary["data_md5"] or "not tracked" for summary in summaries})
    ceiling = statistics["reference"]["human_ceiling"]
    commit, dirty = provenance.git_state(project.root)
    status = pd.concat([frame[STATUS] for frame in frames.values()])
    return {
        "protocol": str(statistics["protocol"]),
        "stimuli": str(statistics["reference"]["n_stimuli"]),
        "human ceiling": f"{ceiling:.5f}" if ceiling else "none: the stimuli have no human maps",
        "rows (model, stimulus)": _counted(status),
        "data (DVC)": ", ".join(data),
        "code (git)": f"{commit}{' with changes' if dirty else ''}" if commit else "not under git",
    }


def _details(summary: dict[str, Any], frame: pd.DataFrame) -> dict[str, str]:
    """Details of a model, shown when it is selected."""
    metrics = summary["metrics"]
    pt, aa = describe("pt"), describe("aa")
    prefix = f"{aa.name}."
    known = {name.removeprefix(prefix): metrics[name] for name in metrics if name.startswith(prefix)}
    by_superclass = [f"{name} {value:.2f}" for name, value in known.items() if value is not None]
    shown = {
        "architecture, recipe": f"{summary['architecture']}, {summary['recipe']}",
        "stimuli": _counted(frame[STATUS]),
        f"{pt.label} (95 % interval)": _interval(metrics, pt.name),
        f"{aa.label} (95 % interval)": _interval(metrics, aa.name),
        "AA controls": _controls(metrics),
        "AA by superclass": ", ".join(by_superclass),
        "weights (SHA-256)": summary["weights_sha256"],
        "rows (SHA-256)": summary["rows_sha256"],
    }
    return {label: value for label, value in shown.items() if value}


def _controls(metrics: dict[str, float | None]) -> str:
    """The controls of centre bias, undivided by the ceiling."""
    shown = {
        "own minus other images' maps": "aligned_minus_shuffled",
        "given distance from the centre": "alignment_given_centre",
        "energy on the top 10 % of map pixels": "energy_on_human_top10",
    }
    return ", ".join(f"{label} {metrics[name]:.3f}" for label, name in shown.items() if metrics.get(name) is not None)


def _counted(status: "pd.Series[str]") -> str:
    """Outcomes of a model's rows, in words: nothing is dropped silently."""
    counts = status.value_counts()
    wrong, failed = counts.get(Status.MISCLASSIFIED_CLEAN, 0), counts.get(Status.ATTACK_FAILED, 0)
    return (
        f"{counts.get(Status.OK, 0)} of {len(status)} valid; {wrong} wrong before the attack, {failed} attacks failed"
    )


def _estimates(summary: dict[str, Any]) -> dict[str, Any]:
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


def _pictured(table: pd.DataFrame, statistics: dict[str, Any]) -> list[str]:
    """Models in the gallery: of a large zoo, those trained here, then the front and the models beyond it."""
    notable = {entry["model"] for key in ("pareto", "beyond_front") for entry in statistics[key]}
    trained = table["model"][table["recipe"] != "pretrained"]
    first = [*trained, *(name for name in table["model"] if name in notable), *table["model"]]
    chosen = set(list(dict.fromkeys(first))[:PICTURED_MODELS])
    return [name for name in table["model"] if name in chosen]


def _write(folder: Path, table: pd.DataFrame, material: Material) -> None:
    """Write all files, the statistics last: they hold the digests of the others."""
    zoo, columns, report = folder / "zoo.csv", folder / "zoo.parquet", folder / "report.html"
    with replacing(zoo) as temporary:
        table.to_csv(temporary, index=False, float_format="%.6g")
    with replacing(columns) as temporary:
        table.to_parquet(temporary, index=False)
    write_text(report, render_report(material))
    files = [zoo, columns, report, *_write_metrics(folder / "metrics", table), *_draw(folder / "figures", material)]
    digests = {file.relative_to(folder).as_posix(): sha256(file) for file in sorted(files)}
    seals.write_json(folder / STATISTICS, {**material.statistics, "files": digests})


def _write_metrics(folder: Path, table: pd.DataFrame) -> list[Path]:
    """One small file for each headline, so that `dvc metrics show` is a table of metric by model."""
    for name in HEADLINES:
        values = dict(zip(table["model"], table[name], strict=True))
        write_text(folder / f"{name}.json", json.dumps(plain(values), indent=1) + "\n")
    return [folder / f"{name}.json" for name in HEADLINES]


def _draw(folder: Path, material: Material) -> list[Path]:
    written = []
    for name, plot in material.plots.items():
        figure = draw(plot)
        written += [folder / f"{name}.png", folder / f"{name}.svg"]
        for file in written[-2:]:
            save(figure, file)
    if material.gallery is not None:
        gallery = material.gallery
        shown = dict(list(gallery.perturbations.items())[:GALLERY_MODELS])
        printed = gallery_figure(gallery.images, gallery.heatmaps, shown, gallery.names)
        written.append(folder / "gallery.png")  # vector graphics do not improve pictures
        save(printed, written[-1])
    return written


def read_comparison(folder: Path) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Read a comparison: zoo table and statistics; no file of it may have changed since it was written.

    Raises:
        InputError: there is no comparison yet.
        Damaged: a file is missing, damaged or was edited.
    """
    mend = "run `advalign compare` again"
    try:
        statistics = seals.read_json(folder / STATISTICS, mend)
    except FileNotFoundError:
        raise InputError("nothing is compared yet: run `advalign compare` (or `make repro`) first") from None
    for name, digest in statistics.pop("files", {"its list of files": ""}).items():
        path = folder / name
        if not path.is_file() or sha256(path) != digest:
            raise seals.Damaged(f"{path} is missing, damaged or was edited: {mend}")
    return pd.read_csv(folder / "zoo.csv"), statistics
