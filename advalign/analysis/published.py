"""Published values next to measured ones: does a model that is trained and attacked here give the printed values?

The published tolerances (Feng et al. 2025) come from an attack whose projection does nothing
(`attacks/feng2025_released.py`), so they are not minimum norms. Differences and correlations are computed only with
measurements under that protocol; other measurements are only shown.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

import pandas as pd
from pydantic import AfterValidator, BeforeValidator, Field

from advalign.analysis.evaluated import evaluated
from advalign.analysis.statistics import spearman
from advalign.analysis.table import LARGEST_AA, LARGEST_PT, SMALLEST, protocol_of
from advalign.analysis.zoo import plain
from advalign.errors import InputError, shown
from advalign.files import Project
from advalign.regular_files import read_text
from advalign.settings import EvaluateSettings
from advalign.strict_csv import LARGEST, parse_number, parse_sheet
from advalign.strict_files import parse_yaml
from advalign.strict_settings import Strict, parse
from advalign.vocabulary import describe

RELEASED = "feng2025-released"
"""The protocol of the published values: they are compared only with measurements under it."""
METRICS = ("pt", "aa")
VALUES = ("pt", "pt_sem", "aa", "aa_sem")
MEND = "give every model pt, pt_sem, aa and aa_sem as numbers, SEM at least 0, AA as a share (26.12 % is 0.2612)"
COUNTED = "Models measured and published: {common}; only measured: {only_measured}; only published: {only_published}."
WHY = "while published tolerances come from the released attack and are not minimum norms"
IF_RELEASED = f"If its values do too, write {RELEASED} into a column `protocol`."
EVALUATE = f"`advalign evaluate --protocol {RELEASED}` gives what can be compared."
RADIUS = re.compile(r"_l2_eps(?P<l2>\d+(\.\d+)?)$|_linf_eps(?P<linf>\d+(\.\d+)?)(_255)?$")
"""How the paper, its released table and our own training end the name of an adversarially trained model."""


def _number(cell: object) -> object:
    """A cell of a CSV as a number; values of YAML are numbers already."""
    try:
        return parse_number(cell) if isinstance(cell, str) else cell
    except ValueError:
        raise ValueError("write a finite number with a decimal point") from None  # `parse` adds what was got


def _sizable(number: float) -> float:
    if 0 < abs(number) < SMALLEST:
        raise ValueError("write 0, or the number that is meant")
    return number


Number = Annotated[float, BeforeValidator(_number), AfterValidator(_sizable)]


class PublishedValues(Strict):
    """PT and AA of one model as published, with the standard errors over stimuli."""

    pt: Number = Field(ge=0, le=LARGEST_PT)
    pt_sem: Number = Field(ge=0, le=LARGEST_PT)
    aa: Number = Field(ge=-LARGEST_AA, le=LARGEST_AA)
    aa_sem: Number = Field(ge=0, le=LARGEST_AA)
    as_published: str | None = Field(None, description="the publication's spelling of the name, where another one")


class Publication(Strict):
    """All of a file of published values (registry/published/*.yaml).

    Attributes:
        source: paper and tables, or the file that the values come from.
        human_ceiling: what AA is divided by; None where the source does not say.
        models: contract name -> values.
    """

    source: str
    protocol: Literal["feng2025-released"]
    human_ceiling: float | None = Field(None, gt=0, le=1)
    models: dict[str, PublishedValues] = Field(min_length=1)


def contract_name(model: str) -> str:
    """Our training's name for a model of any publication (docs/methods.md, section Published values).

    The released table leaves out the 255 of linf radii, and the paper prints whole radii with a decimal.

    >>> [contract_name(name) for name in ("resnet18_linf_eps1.0", "resnet18_linf_eps0.5_255", "resnet50.a1_in1k")]
    ['resnet18_linf_eps1_255', 'resnet18_linf_eps0.5_255', 'resnet50.a1_in1k']
    """

    def ours(found: re.Match[str]) -> str:
        return f"_l2_eps{float(found['l2']):g}" if found["l2"] else f"_linf_eps{float(found['linf']):g}_255"

    return RADIUS.sub(ours, model)


def read_published(path: Path) -> Publication:
    """Read published values: YAML as in registry/published, or CSV with the columns model, pt, aa, pt_sem, aa_sem.

    Args:
        path: The file; one that ends in .yaml or .yml is YAML, any other CSV. A CSV counts as `feng2025-released`.

    Returns:
        The values by contract name (`contract_name`), whatever the file's spelling.

    Raises:
        InputError: The file cannot be read, has an unknown key or lacks a column, a model is doubled, or a value is not
            a number in its range.
    """
    try:
        text = read_text(path, largest=LARGEST, encoding="utf-8-sig")
    except OSError as error:
        reason = error.strerror or error
        raise InputError(f"{path}: cannot be read ({reason}); give a YAML or CSV file of published values") from None
    except UnicodeDecodeError:
        raise InputError(f"{path}: is not UTF-8 text; save it as YAML or CSV in UTF-8") from None
    values = _yaml(text, path) if path.suffix.lower() in (".yaml", ".yml") else _csv(text, path)
    try:
        publication = parse(Publication, values, str(path))
    except InputError as error:
        raise InputError(f"{error}; {MEND}") from None
    return publication.model_copy(update={"models": _renamed(publication.models, path)})


def _renamed(models: dict[str, PublishedValues], path: Path) -> dict[str, PublishedValues]:
    """The models by contract name, each under one name only."""
    named: dict[str, PublishedValues] = {}
    for name, values in models.items():
        if contract_name(name) in named:
            raise InputError(f"{path}: {contract_name(name)!r} is there twice; keep one entry per model")
        named[contract_name(name)] = values
    for name, values in named.items():
        if values.as_published and contract_name(values.as_published) in named.keys() - {name}:
            raise InputError(f"{path}: {name}: as_published {values.as_published!r} names another model; fix it")
    return named


def _yaml(text: str, path: Path) -> dict[str, Any]:
    values = parse_yaml(text, str(path))
    if not isinstance(values, dict):
        raise InputError(f"{path}: expected a mapping with source, protocol and models; see registry/published")
    return values


def _csv(text: str, path: Path) -> dict[str, Any]:
    rows = parse_sheet(text, str(path))
    if not rows:
        raise InputError(f"{path}: is empty; expected a header with model, {', '.join(VALUES)}")
    header = rows[0][1]
    wrong = [name for name in ("model", *VALUES) if header.count(name) != 1]
    if wrong:
        found = shown(", ".join(header))
        raise InputError(f"{path}: header needs {', '.join(wrong)} once (found: {found}); add or rename the columns")
    places = [header.index(name) for name in ("model", *VALUES)]
    models: dict[str, Any] = {}
    for row, cells in rows[1:]:
        name, *values = (cells[place].strip() for place in places)
        if not name and any(values):
            raise InputError(f"{path}, row {row}: the model has no name; fill in `model` or delete the row")
        if name in models:
            raise InputError(f"{path}, row {row}: {shown(name)} is there twice; keep one row per model")
        if name:
            models[name] = dict(zip(VALUES, values, strict=True))
    return {"source": path.name, "protocol": RELEASED, "models": models}


def released_results(
    project: Project, evaluate: EvaluateSettings, setting: Mapping[str, object]
) -> pd.DataFrame | None:
    """Measurements under the released protocol: model, pt, pt_sem, aa, aa_sem; None if there are none.

    Args:
        project: owner of the results.
        evaluate: settings: declared protocols and metrics.
        setting: of the results that they are set beside (`statistics["setting"]`); others are left out.
    """
    if not any((project.evaluations / RELEASED).glob("*.json")):
        return None
    summaries = evaluated(project, evaluate, RELEASED, setting).summaries
    rows = [{name: summary["metrics"].get(describe(name).name) for name in VALUES} for summary in summaries]
    return pd.DataFrame(rows).assign(model=[summary["model"] for summary in summaries])


def beside_published(
    publication: Publication,
    measured: pd.DataFrame,
    released: pd.DataFrame | None = None,
    human_ceiling: float | None = None,
) -> dict[str, Any]:
    """Put published values next to measured ones, for every model that has both.

    A difference is in units of the combined standard error, sqrt(SEM measured^2 + SEM published^2). Both errors are
    over stimuli; where these are the same in both, the true error of the difference is smaller.

    Args:
        publication: From `read_published`.
        measured: One row per model with model, pt, aa and, where known, pt_sem, aa_sem, protocol; one protocol.
        released: The same under `RELEASED`; not needed where `measured` itself is of that protocol.
        human_ceiling: What the measured AA is divided by, where known.

    Returns:
        protocol (of `measured`), source, rows (per model PT and AA as measured, as measured under the released
        protocol, as published, and the difference), correlations (Spearman's rho per metric over the compared models),
        counts and notes; ready for JSON: what could not be computed is None.

    Raises:
        InputError: Two measured models have one published name.
    """
    protocol = protocol_of(measured)
    headline = _named(measured, publication)
    same = headline if protocol == RELEASED else _named(released, publication)
    rows = _joined(publication, headline, same)
    counts = _counts(len(headline.index.union(same.index)), rows.index, same.index, len(publication.models))
    result = {
        "protocol": protocol,
        "source": publication.source,
        "rows": rows.to_dict("records"),
        "correlations": [_correlation(rows, metric) for metric in METRICS],
        "counts": counts,
        "notes": list(_notes(rows, counts, protocol, (human_ceiling, publication.human_ceiling))),
    }
    cleaned: dict[str, Any] = plain(result)
    return cleaned


def _joined(publication: Publication, headline: pd.DataFrame, released: pd.DataFrame) -> pd.DataFrame:
    """One row per model that is published and measured, under either protocol, with the differences."""
    rows = pd.DataFrame([{"name": name, **values.model_dump()} for name, values in publication.models.items()])
    rows = rows.set_index("name")[list(VALUES)].add_suffix("_published")
    rows = rows.join(headline).join(released.add_suffix("_released"))
    rows = rows[rows.index.isin(headline.index.union(released.index))]
    rows.insert(0, "model", rows.pop("model").fillna(rows.pop("model_released")))
    for metric in METRICS:
        combined = (rows[f"{metric}_sem_released"] ** 2 + rows[f"{metric}_sem_published"] ** 2) ** 0.5
        difference = rows[f"{metric}_released"] - rows[f"{metric}_published"]
        rows[f"{metric}_difference"] = difference / combined.where(combined > 0)
    return rows


def _named(table: pd.DataFrame | None, publication: Publication) -> pd.DataFrame:
    """Measured values (model, pt, pt_sem, aa, aa_sem) by the name that the publication has for the model."""
    found = pd.DataFrame() if table is None else table
    values = found.reindex(columns=["model", *VALUES]).astype(dict.fromkeys(VALUES, float))
    aliases = {model.as_published: name for name, model in publication.models.items() if model.as_published}
    names = [aliases.get(model, contract_name(model)) for model in values["model"]]
    doubled = values["model"][pd.Series(names, index=values.index, dtype=object).duplicated(keep=False)]
    if not doubled.empty:
        raise InputError(f"measured models {' and '.join(doubled)} are one by their published name; keep one of them")
    return values.set_index(pd.Index(names, dtype=object))


def _counts(measured: int, common: pd.Index, same: pd.Index, published: int) -> dict[str, int]:
    return {
        "measured": measured,
        "published": published,
        "common": len(common),
        "compared": len(common.intersection(same)),
        "only_measured": measured - len(common),
        "only_published": published - len(common),
    }


def _correlation(rows: pd.DataFrame, metric: str) -> dict[str, Any]:
    known = rows[[f"{metric}_released", f"{metric}_published"]].dropna()
    found = spearman(known.iloc[:, 0], known.iloc[:, 1])
    return {"metric": metric, **asdict(found), "note": found.note or None}


def _notes(
    rows: pd.DataFrame, counts: dict[str, int], protocol: str | None, ceilings: tuple[float | None, float | None]
) -> Iterator[str]:
    """Sentences that a reader of the rows needs."""
    if not counts["common"]:
        yield "No model is both measured and published: {measured} measured, {published} published.".format(**counts)
        return
    yield COUNTED.format(**counts)
    if counts["compared"]:
        yield "Differences are in units of the combined SEM."
    alone = counts["common"] - counts["compared"]
    if alone and protocol is None:
        yield f"No difference and no rho: the table does not say its protocol, {WHY}. {IF_RELEASED}"
    elif alone:
        yield f"{alone} without difference and rho: measured under {protocol} only, {WHY}. {EVALUATE}"
    known = rows["pt_released"].notna() & rows["aa_released"].notna()
    without = int((known & rows[["pt_difference", "aa_difference"]].isna().any(axis=1)).sum())
    if without:
        yield f"{without} without difference: no standard error is known for the measured value."
    measured, published = ceilings
    if counts["compared"] and measured and published and abs(measured - published) > 1e-4:
        yield f"AA is divided by a human ceiling of {measured:.5f} here and {published:.5f} there and differs by that."
