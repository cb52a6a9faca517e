"""The comparison of all evaluated models: zoo table, statistics, figures and report from results on disk."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from advalign.analysis.assembly import added_columns, gallery_of, with_added, with_other_norms, zoo_table
from advalign.analysis.comparison_files import write_comparison
from advalign.analysis.details import details_of, estimates_of, facts_of
from advalign.analysis.evaluated import SHARED, Evaluated, evaluated, unmeasured
from advalign.analysis.figures import Curve
from advalign.analysis.people import read_people
from advalign.analysis.protocols import compare_protocols
from advalign.analysis.report import DEFAULT_TRACKING, Material, Provenance, Tracking
from advalign.analysis.saliency import compare_saliency, measures_saliency
from advalign.analysis.table import check_table
from advalign.analysis.twins import find_twins, paired_statistics
from advalign.analysis.zoo import plain, zoo_statistics
from advalign.data.results import Paths, read_rows, read_summaries
from advalign.data.sets.stimuli import StimulusSet, load_stimuli
from advalign.errors import InputError
from advalign.evaluation.tasks import open_set
from advalign.files import Project
from advalign.metrics.robust_accuracy import robust_accuracy
from advalign.models.declared import read_zoo
from advalign.rows import NORMS, SCALES, norm_of
from advalign.settings import Settings
from advalign.tensors.heatmaps import centred_gaussian
from advalign.tensors.ranks import rank_correlation
from advalign.vocabulary import norm_measured

PICTURED_MODELS = 24  # models in the report's gallery, since the file contains their perturbations
CURVE_POINTS = 101


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
    stimuli = _stimuli(project, protocol)
    found = _comparable(project, settings, protocol, stimuli)
    summaries = found.summaries
    table = zoo_table(summaries, read_zoo(project.zoo)).assign(protocol=protocol)  # of a trial, with its size
    frames = _rows(project, protocol, table["model"])
    twins = find_twins(table)
    ceiling: float | None = summaries[0]["human_ceiling"]  # None where the stimuli have no maps
    paired = paired_statistics(frames, twins, seed=settings.seed, resamples=settings.compare.bootstrap, ceiling=ceiling)
    statistics = zoo_statistics(table, paired) | _described(summaries, stimuli)
    tables, left_out = _tables(project, settings, table, statistics["setting"])
    others, table = _set_beside(settings, tables, statistics)
    statistics["left_out"] = [*found.left_out, *left_out]
    statistics["notes"] += _notes(statistics["left_out"], summaries)
    material = Material(
        check_table(table, "the evaluations"),
        statistics,
        twins,
        _curves(frames, (_rows(project, name, {*one["model"]} & {*frames}) for name, one in others.items())),
        {summary["model"]: details_of(summary, frames[summary["model"]]) for summary in summaries},
        gallery_of(project.evaluations / protocol, _pictured(table, statistics), stimuli),
        Provenance(facts_of(project, statistics, frames, summaries), tracking),
        read_people(project, settings, stimuli),
    )
    write_comparison(project.comparison, table, material)
    return table, statistics


def _stimuli(project: Project, protocol: str) -> StimulusSet:
    """The stimuli in outputs/stimuli, labelled with decisions or classes as the protocol's evaluations are."""
    opened = open_set(read_summaries(project, protocol)[0]["image_set"], project)
    return opened if isinstance(opened, StimulusSet) else load_stimuli(project)


def _comparable(project: Project, settings: Settings, protocol: str, stimuli: StimulusSet) -> Evaluated:
    """The evaluations on the stimuli that lie in outputs/stimuli."""
    found = evaluated(project, settings.evaluate, protocol, {"stimuli_sha256": stimuli.digest})
    if not found.summaries:
        raise InputError(
            f"no evaluation under {protocol!r} is of the stimuli in outputs/stimuli: run `advalign evaluate` again"
        )
    if not any(norm_measured(summary["protocol_metrics"]) for summary in found.summaries):
        raise InputError(
            f"protocol {protocol!r} measures no perturbation tolerance, by which models are compared: name one that "
            "searches for minimum norms, such as fmn-fast"
        )
    return found


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
        write_comparison(output, table, Material(table, statistics, twins, provenance=Provenance(facts)))
    return statistics


def _notes(left_out: list[dict[str, str]], summaries: list[dict[str, Any]]) -> list[str]:
    """Sentences on models that the table lacks, and on those that only share a name with one of the pipeline."""
    notes = [f"Left out: {one['model']} under {one['protocol']}, {one['why']}." for one in left_out]
    names = [summary["model"] for summary in summaries if summary["by_hand"]]
    return (
        [*notes, f"Not from the pipeline, which trains models of these names: {', '.join(names)}."] if names else notes
    )


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


def _described(summaries: list[dict[str, Any]], stimuli: StimulusSet) -> dict[str, Any]:
    """What the statistics say of the models, their setting and the reference line."""
    first = summaries[0]
    return {
        "reference": _reference(stimuli, first["human_ceiling"], first["n_stimuli"]),
        "models": [estimates_of(summary) for summary in summaries],
        "setting": {key: first[key] for key in SHARED},
    }


def _set_beside(
    settings: Settings, tables: dict[str, pd.DataFrame], statistics: dict[str, Any]
) -> tuple[dict[str, pd.DataFrame], pd.DataFrame]:
    """Compare the protocols, and put the answers into the statistics.

    Returns:
        Zoo tables of the other protocols with a tolerance, by name; and the headline's table with what stands beside.
    """
    (headline, table), *further = tables.items()
    drawn = {"seed": settings.seed, "resamples": settings.compare.bootstrap}
    added = {name: one for name, one in further if added_columns(one)}
    saliency = [name for name, one in added.items() if measures_saliency(one)]
    compared = {name: one for name, one in further if name not in added}
    statistics["protocols"] = plain(compare_protocols({headline: table, **compared}, **drawn))
    others = {name: one for name, one in compared.items() if one["pt"].notna().any()}
    table = with_added(with_other_norms(table, others.values()), added)
    if saliency:
        statistics["saliency"] = plain(compare_saliency(table, saliency, **drawn))
    return others, table


def _tables(
    project: Project, settings: Settings, table: pd.DataFrame, setting: dict[str, Any]
) -> tuple[dict[str, pd.DataFrame], list[dict[str, str]]]:
    """Zoo tables by protocol, the headline first, and models that cannot stand beside it; empty tables are left out."""
    zoo = read_zoo(project.zoo)
    tables, left_out = {str(table["protocol"].iloc[0]): table}, []
    for name in dict.fromkeys((settings.evaluate.protocol, *settings.evaluate.also)):
        if name in tables:
            continue
        left_out += unmeasured(project, name, table["model"])
        if any((project.evaluations / name).glob("*.json")):
            found = evaluated(project, settings.evaluate, name, setting)
            left_out += found.left_out
            if found.summaries:
                tables[name] = zoo_table(found.summaries, zoo)
    return tables, left_out


def _rows(project: Project, protocol: str, models: Iterable[str]) -> dict[str, pd.DataFrame]:
    """Model -> its rows under a protocol."""
    return {name: read_rows(Paths(project.evaluations / protocol, name).rows) for name in models}


def _curves(frames: dict[str, pd.DataFrame], others: Iterable[dict[str, pd.DataFrame]]) -> dict[str, dict[str, Curve]]:
    """Robust accuracy by norm and model: of the headline, and of the first other protocol in each further norm."""
    found: dict[str, dict[str, Curve]] = {}
    for rows in (frames, *others):
        norm = next((norm for frame in rows.values() if (norm := norm_of(frame))), None)
        if norm is not None and norm not in found:
            largest = np.nanmax([0.0, *(SCALES[norm] * frame[NORMS[norm]].max() for frame in rows.values())]) or 1.0
            radii = np.linspace(0, float(largest), CURVE_POINTS)
            found[norm] = {name: (radii, robust_accuracy(frame, radii)) for name, frame in rows.items()}
    return found


def _pictured(table: pd.DataFrame, statistics: dict[str, Any]) -> list[str]:
    """Models in the gallery: of a large zoo, those trained here, then the front and the models beyond it."""
    notable = {entry["model"] for key in ("pareto", "beyond_front") for entry in statistics[key]}
    trained = table["model"][table["recipe"] != "pretrained"]
    first = [*trained, *(name for name in table["model"] if name in notable), *table["model"]]
    chosen = set(list(dict.fromkeys(first))[:PICTURED_MODELS])
    return [name for name in table["model"] if name in chosen]
