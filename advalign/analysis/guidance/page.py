"""The files of a study of guided models: tables, verdict.json, figures, and a page with all of them."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from advalign import seals
from advalign.analysis.drawing import draw, save
from advalign.analysis.guidance.comparisons import ACCURACY, CONTROLS, means
from advalign.analysis.guidance.figures import guidance_plots
from advalign.analysis.guidance.measured import AREA, DEGRADED, GEOMETRY, ROLES, SHUFFLED, WEAK, Results, tolerances
from advalign.analysis.guidance.verdict import Judgement, judge
from advalign.analysis.report import page
from advalign.analysis.scatter import p_words
from advalign.analysis.zoo import plain
from advalign.files import replacing, write_text
from advalign.vocabulary import UNITS

VERDICT = "verdict.json"
NUMBERS = ("accuracy", "tolerance", "explained", "rsa", "cka", "capacity", "radius", "dimension", "separability")
SUBJECTS = {
    AREA: "order of the areas",
    SHUFFLED: "order of their shuffles",
    DEGRADED: "order of degraded areas",
    ACCURACY: "shuffled targets",
    **{name: f"manifold {name}" for name in GEOMETRY},
}
"""What a verdict is about, other than an area -> its words on the page."""
HEADINGS = {"explained": "explained / ceiling", "rsa": "RSA", "cka": "CKA"}


def write_guidance(
    folder: Path, results: Results, *, resamples: int, seed: int, facts: Mapping[str, str], notes: Sequence[str] = ()
) -> list[Judgement]:
    """Write models.csv, norms.parquet, verdict.json, verdict.html and figures/.

    Args:
        folder: where to.
        results: of the study.
        resamples, seed: of the intervals.
        facts: label -> value, at the top of the page.
        notes: what else must be said.

    Returns:
        A judgement per norm, l2 first.
    """
    judgements = [judge(results, norm, resamples=resamples, seed=seed) for norm in results.norm_names]
    models = _with_tolerances(results)
    with replacing(folder / "models.csv") as temporary:
        models.to_csv(temporary, index=False)
    with replacing(folder / "norms.parquet") as temporary:
        results.norms.to_parquet(temporary, index=False)
    told = {
        "provenance": results.provenance,
        "areas": list(results.areas),
        "notes": list(notes),
        "norms": {one.norm: _plain(one, results) for one in judgements},
        "models": models.to_dict("records"),
    }
    seals.write_json(folder / VERDICT, plain(told))
    plots = guidance_plots(results)
    for name, plot in plots.items():
        figure = draw(plot)
        for ending in ("png", "svg"):
            save(figure, folder / "figures" / f"{name}.{ending}")
    html = page(
        "guidance.html.j2",
        plots,
        provenance=results.provenance,
        facts={"provenance of the responses": results.provenance, **facts},
        judgements=[_shown(one, results) for one in judgements],
        notes=[*notes, *_weak(results)],
    )
    write_text(folder / "verdict.html", html)
    return judgements


def _with_tolerances(results: Results) -> pd.DataFrame:
    """The models, with the mean minimum norms of each: `tolerance_l2` and `tolerance_linf` (1/255)."""
    found = results.models.copy()
    for norm in results.norm_names:
        table = tolerances(results, norm)[0]
        own = table.groupby(["arm", "subject", "seed"])["tolerance"].mean()
        of_all = table.groupby(["arm", "seed"])[
            "tolerance"
        ].mean()  # of models that stand in the blocks of all subjects
        keys = found[["arm", "subject", "seed"]].itertuples(index=False, name=None)
        found[f"tolerance_{norm}"] = [own[key] if key[1] else of_all[key[0], key[2]] for key in keys]
    return found


def _plain(judgement: Judgement, results: Results) -> dict[str, Any]:
    entries = [
        {**{key: value for key, value in asdict(one).items() if key != "found"}, **asdict(one.found), "sign": one.sign}
        for one in judgement.compared
    ]
    return {
        "sentences": judgement.sentences,
        "verdicts": {one.about: one.answer for one in judgement.areas},
        "trends": {role: asdict(test) for role, test in judgement.tests.items()},
        "compared": entries,
        "geometry": {name: asdict(link) for name, link in judgement.links.items()},
        "means": means(results, judgement.norm).to_dict("records"),
    }


def _shown(judgement: Judgement, results: Results) -> dict[str, Any]:
    """What the page shows of one norm."""
    table = means(results, judgement.norm)
    numbers = [name for name in table if str(name).partition("@")[0] in NUMBERS]
    headings = ["arm", "guided by", "subject", "seeds", *(HEADINGS.get(str(name), str(name)) for name in numbers)]
    cells = []
    for _, row in table.iterrows():
        own = [str(row["arm"]), _what(row, results.provenance), str(row["subject"]) or "–", str(row["seeds"])]
        cells.append([*own, *(_value(row, str(name)) for name in numbers)])
    found = {(one.area, one.against): one for one in reversed(judgement.compared)}  # an area's own before its shuffle's
    one_line = [
        {"area": one.about, "answer": one.answer, "cells": [_cell(found.get((one.about, key))) for key in CONTROLS]}
        for one in judgement.areas
    ]
    return {
        "unit": UNITS[judgement.norm],
        "findings": [(one.about, one) for one in judgement.areas]
        + [(SUBJECTS.get(one.about, one.about), one) for one in (*judgement.trends, *judgement.further)],
        "verdicts": one_line,
        "headings": headings,
        "cells": cells,
    }


def _what(row: "pd.Series[Any]", provenance: str) -> str:
    """The role, with the area and the provenance of its responses."""
    return f"{ROLES[row['role']]}: {row['area']}, {provenance}" if row["area"] else ROLES[row["role"]]


def _value(row: "pd.Series[Any]", name: str) -> str:
    value, spread = row[name], row.get(f"{name}_sem", math.nan)
    if value is None or math.isnan(value):
        return "–"
    return f"{value:.3f}" if math.isnan(spread) else f"{value:.3f} ± {spread:.3f}"


def _cell(entry: Any) -> str:
    if entry is None:
        return "–"
    if entry.lacking:
        return (
            entry.lacking if math.isnan(entry.found.difference) else f"{entry.found.difference:+.3f} ({entry.lacking})"
        )
    found = entry.found
    return f"{found.difference:+.3f} ({found.low:+.3f} to {found.high:+.3f}), Holm {p_words(entry.p_holm)}"


def _weak(results: Results) -> list[str]:
    weak = tolerances(results, results.norm_names[0])[1] if results.norm_names else []
    if not weak:
        return []
    return [
        f"Less than {WEAK:.0%} as accurate as unguided training: {', '.join(weak)}. They do not decide which images "
        "are common; their tolerance is over those common images that they get right."
    ]
