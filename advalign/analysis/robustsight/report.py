"""All that RobustSight says of a project's models, in files: tables, findings, figures, and a page with all of them."""

import base64
import io
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from advalign import provenance
from advalign.analysis.drawing import draw, save
from advalign.analysis.gallery import Gallery, gallery_beside, gallery_figure
from advalign.analysis.plots import Plot
from advalign.analysis.report import page
from advalign.analysis.robustsight.figures import robustsight_plots
from advalign.analysis.robustsight.findings import Finding, findings
from advalign.analysis.robustsight.measured import IMAGES, Experiment
from advalign.analysis.robustsight.published import read_publication
from advalign.analysis.robustsight.tables import TITLES, robustsight_tables, shown, write_tables
from advalign.data.classes import read_classes
from advalign.data.results import Paths, read_gallery
from advalign.evaluation.tasks import open_set
from advalign.files import Project, write_text
from advalign.settings import Settings


def write_robustsight(project: Project, settings: Settings) -> str:
    """outputs/evaluations -> outputs/comparison: tables, findings.json, figures/ and report.html.

    Args:
        project: owner of the evaluations and of registry/published.
        settings: `evaluate.protocol` and `evaluate.also` name the protocols; what they measure decides what is told.

    Returns:
        The tables and findings as Markdown.

    Raises:
        InputError: no model is evaluated under one of the protocols, or nothing is evaluated on data/cifar.
        Damaged, CheckFailed: a result is damaged, or its numbers are not those of its rows.
    """
    experiment, folder = Experiment(project, settings), project.comparison
    published = read_publication(project.home / "registry" / "published" / "kannappan2025.yaml")
    tables, notes = robustsight_tables(experiment, published)
    found, plots, pictured = findings(experiment), robustsight_plots(experiment), saliency_gallery(experiment)
    for name, plot in plots.items():
        figure = draw(plot)
        for ending in ("png", "svg"):
            save(figure, folder / "figures" / f"{name}.{ending}")
    picture = None
    if pictured is not None:
        picture = gallery_figure(pictured.images, pictured.heatmaps, pictured.perturbations, pictured.names)
        save(picture, folder / "figures" / "saliency.png")  # vector graphics do not improve pictures
    write_text(folder / "findings.json", json.dumps([one.plain() for one in found], indent=1) + "\n")
    write_text(folder / "report.html", _report(experiment, tables, found, notes, plots, picture))
    return write_tables(folder, tables, [one.sentence for one in found], notes)


def saliency_gallery(experiment: Experiment) -> Gallery | None:
    """The pictured test images with every model's saliency; None where no saliency is measured."""
    kept: dict[str, Any] = {}
    for one in experiment.under(IMAGES, "saliency"):
        for summary in one.summaries:
            paths = Paths(experiment.project.evaluations / one.protocol.name, summary["model"])
            kept.setdefault(summary["model"], read_gallery(paths))
    found = gallery_beside(open_set(IMAGES, experiment.project), kept)
    if found is None:
        return None
    classes = read_classes(experiment.project.data / "classes.yaml").entries
    return replace(found, names=[classes[int(label)].name for label in found.names])


def _report(
    experiment: Experiment,
    tables: Mapping[str, pd.DataFrame],
    found: list[Finding],
    notes: list[str],
    plots: Mapping[str, Plot],
    picture: Figure | None,
) -> str:
    """The page: reading it needs no network."""
    titled = {}
    for name, table in tables.items():
        headings, rows = shown(table)
        titled[TITLES[name]] = {"headings": headings, "cells": rows}
    return page(
        "robustsight.html.j2",
        plots,
        count=len(experiment.models),
        facts=_facts(experiment),
        findings=found,
        tables=titled,
        notes=notes,
        gallery=_data_url(picture) if picture else None,
    )


def _facts(experiment: Experiment) -> dict[str, str]:
    summaries = [summary for one in experiment.protocols for summary in one.summaries]
    commit, dirty = provenance.git_state(experiment.project.root)
    return {
        "protocols": ", ".join(one.protocol.name for one in experiment.protocols),
        "test images": ", ".join(sorted({str(summary["n_stimuli"]) for summary in summaries})),
        "data (DVC)": ", ".join(sorted({summary["data_md5"] or "not tracked" for summary in summaries})),
        "code (git)": f"{commit}{' with changes' if dirty else ''}" if commit else "not under git",
    }


def _data_url(figure: Figure) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
