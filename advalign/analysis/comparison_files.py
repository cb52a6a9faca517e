"""The files of a comparison: zoo table, statistics, figures and report."""

import json
from pathlib import Path
from typing import Any

import pandas as pd

from advalign import seals
from advalign.analysis.drawing import draw, save
from advalign.analysis.gallery import gallery_figure
from advalign.analysis.people_gallery import people_figure
from advalign.analysis.report import Material, render_report
from advalign.analysis.zoo import plain
from advalign.errors import InputError
from advalign.files import replacing, sha256, write_text
from advalign.vocabulary import HEADLINES

GALLERY_MODELS = 8  # rows of the printed gallery
STATISTICS = "statistics.json"


def write_comparison(folder: Path, table: pd.DataFrame, material: Material) -> None:
    """Write all files, the statistics last: they hold the digests of the others.

    Args:
        folder: to write into; made if it is absent.
        table: one row per model.
        material: of the report.

    Raises:
        OSError: a file cannot be written; those before it are new, and the statistics no longer fit them.
    """
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
    written, people = [], material.people
    for name, plot in {**material.plots, **(people.plots if people else {})}.items():
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
    if people is not None and people.gallery is not None:
        written.append(save(people_figure(people.gallery), folder / "people_gallery.png"))
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
    return pd.read_csv(folder / "zoo.csv", keep_default_na=False, na_values=[""]), statistics  # "NA" may name a model
