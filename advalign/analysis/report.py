"""report.html: one file with table, plots, galleries and lineage; reading it needs no network."""

import base64
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from jinja2 import Environment, FileSystemLoader
from numpy.typing import NDArray
from PIL import Image
from plotly.io import to_json
from plotly.offline import get_plotlyjs

from advalign.analysis.figures import Curve, comparison_plots
from advalign.analysis.gallery import MAP_COLOURS, Gallery, visible
from advalign.analysis.groups import in_order, kinds_of, look
from advalign.analysis.interactive import interact
from advalign.analysis.people import People
from advalign.analysis.people_gallery import people_figure
from advalign.analysis.plots import Plot
from advalign.analysis.saliency import saliency_columns
from advalign.analysis.table import norm_of_table
from advalign.analysis.zoo import plain
from advalign.rows import NORMS
from advalign.vocabulary import BESIDE_AA, PAIRED, PLANE, SEM, UNITS, describe, in_norm

CELL = 112  # side of a gallery picture in pixels
METRICS = (
    "n_valid", "pt", "aa", *(short for short in BESIDE_AA if not short.endswith(SEM)), "aligned_minus_shuffled",
    "multilabel_accuracy", "top1_accuracy", "attack_success_rate", "starts_agree",
)  # fmt: skip


@dataclass(frozen=True)
class Tracking:
    """Links to runs: the address of the MLflow UI and the experiment of evaluations, where known."""

    url: str = "http://127.0.0.1:5000"
    experiment_id: str | None = None


DEFAULT_TRACKING = Tracking()


@dataclass(frozen=True)
class Provenance:
    """Origin of the report.

    Attributes:
        facts: label -> value, shown at the top (data version, commit, number of stimuli, ...).
        tracking: links to its runs.
    """

    facts: Mapping[str, str] = field(default_factory=dict)
    tracking: Tracking = DEFAULT_TRACKING


@dataclass(frozen=True)
class Material:
    """Input of a report.

    Attributes:
        table: one row per model (`table.check_table`).
        statistics: as in statistics.json.
        twins: (baseline, twin) names.
        curves: norm -> model -> robust accuracy over radii; empty for a table without rows.
        details: model -> label -> value, shown when a model is selected.
        gallery: pictures; None where there are none.
        people: behind the human maps; None where no single participants are known.
    """

    table: pd.DataFrame
    statistics: Mapping[str, Any]
    twins: Sequence[tuple[str, str]] = ()
    curves: Mapping[str, Mapping[str, Curve]] = field(default_factory=dict)
    details: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    gallery: Gallery | None = None
    provenance: Provenance = field(default_factory=Provenance)
    people: People | None = None

    @cached_property
    def plots(self) -> dict[str, Plot]:
        """Every figure by the name of its file."""
        return comparison_plots(self.table, self.statistics, self.twins, self.curves)


def render_report(material: Material) -> str:
    """Render the report.

    Returns:
        HTML with the plotting library, data and pictures inside.
    """
    kinds, tracking = kinds_of(material.table), material.provenance.tracking
    data = {
        "models": [_model(row, kinds, material) for row in _rows(material.table)],
        "kinds": {kind: {"name": look(kind).name, "colour": look(kind).colour} for kind in in_order(kinds.values())},
        "pictures": _pictures(material.gallery),
        "mlflow": {"url": tracking.url, "experiment": tracking.experiment_id},
    }
    people = material.people
    return page(
        "report.html.j2",
        material.plots,
        people.plots if people else {},
        people=people,
        people_picture=_people_picture(people) if people else None,
        statistics=material.statistics,
        facts=material.provenance.facts,
        data=_script(plain(data)),
        columns=_script(_columns(material.table)),
        unit=UNITS[norm_of_table(material.table)],
        further=[UNITS[norm] for norm in NORMS if f"pt_{norm}" in material.table],
        count=len(material.table),
    )


def page(template: str, plots: Mapping[str, Plot], apart: Mapping[str, Plot] | None = None, **material: Any) -> str:
    """Render a page with figures; it needs no network.

    Args:
        template: one that extends page.html.j2.
        plots: figures by the name of their files; the template shows them as `figures`.
        apart: more of them, which the template shows as `apart`.
        material: what else the template shows.

    Returns:
        HTML with the plotting library, data and pictures inside.
    """
    environment = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True)
    environment.filters["number"] = _number
    environment.filters["label"] = lambda short: describe(short).label
    every = {**plots, **(apart or {})}
    drawn = {name: json.loads(to_json(interact(plot))) for name, plot in every.items() if plot.panels}
    shown = {"figures": plots, "apart": apart or {}, "plots": _script(drawn), "plotly": get_plotlyjs()}
    return environment.get_template(template).render(**shown, **material)


def _columns(table: pd.DataFrame) -> list[list[str]]:
    """Columns of the table: key, heading, and "bar" where a bar is drawn in addition; further norms stand beside."""
    norm, found = norm_of_table(table), [["model", "model"], ["group", "group"]]
    for short in METRICS:
        bar = ["bar"] if short in PLANE else []
        found.append([short, in_norm(short, norm).label, *bar])
        others = NORMS if short in PAIRED else ()
        found += [[f"{short}_{other}", f"{describe(short).label} {other}", *bar] for other in others]
    saliency = [[column, column.replace("_", " ")] for column in saliency_columns(map(str, table))]
    return [*found, *saliency, ["flags", "flags"]]


def _rows(table: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(name): value for name, value in row.items()} for row in table.to_dict("records")]


def _model(row: dict[str, Any], kinds: Mapping[str, str], material: Material) -> dict[str, Any]:
    name = str(row["model"])
    deltas = material.gallery.perturbations.get(name) if material.gallery else None
    strip = _strip([_coloured(visible(delta)) for delta in deltas]) if deltas else None
    return {**row, "kind": kinds[name], "details": dict(material.details.get(name, {})), "strip": strip}


def _pictures(gallery: Gallery | None) -> dict[str, Any] | None:
    if gallery is None or not len(gallery.names):
        return None
    images = [(image.transpose(1, 2, 0) * 255).astype(np.uint8) for image in gallery.images]
    maps = [_coloured(heatmap) for heatmap in gallery.heatmaps]
    return {"names": list(gallery.names), "stimuli": _strip(images), "maps": _strip(maps), "cell": CELL}


def _people_picture(people: People) -> str | None:
    """The gallery of participants as a data URL."""
    if people.gallery is None:
        return None
    buffer = io.BytesIO()
    people_figure(people.gallery).savefig(buffer, format="png", dpi="figure", metadata={"Software": None})
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _coloured(values: NDArray[np.float32]) -> NDArray[np.uint8]:
    """A map in colours, scaled to its maximum; grey where it is zero everywhere."""
    if not values.max() > 0:
        return np.full((*values.shape, 3), 225, np.uint8)
    colours: NDArray[np.uint8] = (mpl.colormaps[MAP_COLOURS](values / values.max())[..., :3] * 255).astype(np.uint8)
    return colours


def _strip(cells: Sequence[NDArray[np.uint8]]) -> str:
    """Pictures side by side as a data URL."""
    resized = [np.asarray(Image.fromarray(cell).resize((CELL, CELL), Image.Resampling.NEAREST)) for cell in cells]
    buffer = io.BytesIO()
    Image.fromarray(np.concatenate(resized, 1)).save(buffer, "JPEG", quality=80)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _script(value: Any) -> str:
    """JSON that is safe inside a script element, whatever names it contains."""
    return json.dumps(value).replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _number(value: float | None, digits: int = 3) -> str:
    return "–" if value is None or value != value else f"{value:.{digits}f}"
