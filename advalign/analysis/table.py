"""The table of evaluated models: reading, checking, and the groups of its rows (docs/compare.md, section Any table).

One row per model with the columns `model, pt, aa, group, big_data` and, where known, `multilabel_accuracy, pt_sem,
aa_sem, protocol, norm, recipe, baseline` and anything else, which is kept. PT and AA may be missing in a row (no valid
stimulus). PT is in the table's one norm (column `norm`; l2 where it has none; linf in 1/255). Nothing is read out of a
model's name.
"""

import re
from pathlib import Path

import numpy as np
import pandas as pd

from advalign import catalog
from advalign.errors import InputError, shown, unknown_name
from advalign.rows import NORMS
from advalign.strict_csv import parse_number, read_sheet
from advalign.vocabulary import HEADLINES, PAIRED, SEM

STANDARD = ("cnn", "vit", "hybrid", "ssl")
"""Groups that were not trained against attacks nor towards human maps: the 309 models of Feng section 3.2."""
OWN_GROUP = "own"
"""Of a network that is not timm's and that the zoo does not declare: in no statistic of the zoo."""
GROUPS = (*STANDARD, "robust", "harmonized")
"""What every table may say; results of a recipe with a group of its own say that."""
REQUIRED = ("model", "pt", "aa", "group", "big_data")
NUMERIC = tuple(dict.fromkeys((*HEADLINES, *PAIRED, *(f"{short}{SEM}" for short in PAIRED))))
LARGEST_PT = 1e6
"""No image has so many pixels that a perturbation of it is longer."""
LARGEST_AA = 2.0
"""A rank correlation divided by a human ceiling above 0.5; larger numbers are percentages."""
SMALLEST = 1e-100
"""Of the size of a number that is not 0: squares of smaller ones vanish in the statistics."""
RANGES = {
    "pt": (0.0, LARGEST_PT),
    "pt_sem": (0.0, LARGEST_PT),
    "aa": (-LARGEST_AA, LARGEST_AA),
    "aa_sem": (0.0, LARGEST_AA),
    "multilabel_accuracy": (0.0, 100.0),
}
"""What the values of a table from outside may be, published ones included."""
MISSING = ("", "NA", "N/A", "n/a", "#N/A", "<NA>", "NaN", "nan", "-nan", "-NaN", "NULL", "null", "None")
"""Cells of a CSV file that count as empty."""
NOT_A_FAMILY = ("tf", "legacy", "test")


def read_table(path: Path | str) -> pd.DataFrame:
    """Read and check a CSV table of models (UTF-8, comma separated, header in the first row).

    Args:
        path: The file.

    Returns:
        The checked table, indexed by the row of the file (the header is row 1); it always has a column
        `multilabel_accuracy`, all missing if the file has none.

    Raises:
        InputError: The file cannot be read, has no rows, has a group that neither `GROUPS` nor a recipe here has, or
            `check_table` refuses it.
    """
    try:
        rows = read_sheet(Path(path))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error}); give the path of a CSV file") from error
    if not rows:
        raise InputError(f"{path}: is empty; expected a header with {', '.join(REQUIRED)}")
    table = text_table(rows)
    if table.empty:
        raise InputError(f"{path}: has a header but no rows; add one row per model")
    checked = check_table(table, str(path))
    _check_groups(checked, str(path))
    _check_ranges(checked, str(path))
    return checked


def text_table(rows: list[tuple[int, list[str]]]) -> pd.DataFrame:
    """Rows of a CSV file (`strict_csv`) as a table of text, indexed by the lines that they end in.

    Rows of empty cells are left out. A cell that is empty or says NA, nan or null is missing.
    """
    (_, header), *others = rows
    cells = pd.DataFrame([row for _, row in others], [line for line, _ in others], header)
    return cells.mask(cells.isin(MISSING)).dropna(how="all")


def check_table(table: pd.DataFrame, source: str) -> pd.DataFrame:
    """Check a table of models and give its columns their types; a checked table passes unchanged.

    Args:
        table: One row per model; cells may be text. The index labels are the row numbers that errors name.
        source: The table's name in errors (a file name).

    Returns:
        A copy with float PT, AA, accuracy and SEM, integer `big_data`, and always a column `multilabel_accuracy`.

    Raises:
        InputError: A column is missing or doubled, a model is missing or doubled, a group is missing, a cell is not a
            number in its range, the rows come from more than one protocol, or their norm is unknown or not one.
    """
    _check_columns(table, source)
    checked = table.copy()
    for column in ("model", "group", "protocol", "norm", "recipe", "flags", "baseline"):
        if column in checked:
            checked[column] = ["" if pd.isna(cell) else str(cell).strip() for cell in checked[column]]
    _check_models(checked, source)
    if "multilabel_accuracy" not in checked:
        checked["multilabel_accuracy"] = np.nan
    for column in NUMERIC:
        if column in checked:
            checked[column] = _numbers(checked, column, source)
    checked["big_data"] = _flags(checked, source)
    _check_protocol(checked, source)
    _check_norm(checked, source)
    return checked


def _check_columns(table: pd.DataFrame, source: str) -> None:
    names = [str(name) for name in table.columns]
    missing = [name for name in REQUIRED if name not in names]
    if missing:
        found = ", ".join(names) or "none"
        raise InputError(f"{source}: header lacks {', '.join(missing)} (found: {found}); add or rename the columns")
    doubled = sorted({name for name in names if names.count(name) > 1})
    if doubled:
        raise InputError(f"{source}: header has {', '.join(doubled)} more than once; keep one column of each name")


def _check_models(table: pd.DataFrame, source: str) -> None:
    first_row: dict[str, object] = {}
    for row, model, group in zip(table.index, table["model"], table["group"], strict=True):
        if not model:
            raise InputError(f"{source}, row {row}: the model has no name; fill in `model` or delete the row")
        if model in first_row:
            where = f"{source}, row {row}"
            raise InputError(f"{where}: {shown(model)} is already in row {first_row[model]}; keep one row per model")
        first_row[model] = row
        if not group:
            raise InputError(f"{source}, row {row} ({model}): group is missing; write one of {', '.join(GROUPS)}")


def _check_groups(table: pd.DataFrame, source: str) -> None:
    """Refuse a group that is likely a typo: in a table from outside a new one is no recipe's word."""
    from advalign.recipes.base import STANDARD_GROUP  # imports torch, which most users of tables do without

    own = {catalog.load("recipe", name).group for name in catalog.names("recipe")} - {STANDARD_GROUP}
    known = dict.fromkeys([*GROUPS, OWN_GROUP, *sorted(own)])
    for row, model, group in zip(table.index, table["model"], table["group"], strict=True):
        if group not in known:
            raise InputError(f"{source}, row {row} ({model}): {unknown_name('group', group, known)}; fix the cell")


def _refuse(table: pd.DataFrame, source: str, column: str, position: int, cell: object, mend: str) -> InputError:
    row, model = table.index[position], table["model"].iloc[position]
    return InputError(f"{source}, row {row} ({model}): {column} is {shown(cell)}; {mend}")


def _numbers(table: pd.DataFrame, column: str, source: str) -> list[float]:
    numbers: list[float] = []
    for position, cell in enumerate(table[column]):
        if pd.isna(cell) or str(cell).strip() == "":
            numbers.append(float("nan"))
            continue
        try:
            number = parse_number(cell) if isinstance(cell, str) else float(cell)
        except (TypeError, ValueError):
            number = float("inf")
        if not np.isfinite(number):
            mend = "write a finite number with a decimal point, or leave the cell empty"
            raise _refuse(table, source, column, position, cell, mend)
        numbers.append(number)
    return numbers


def _check_ranges(table: pd.DataFrame, source: str) -> None:
    """Refuse values that no model can have, and a column that is in percent in some rows and a share in others."""
    for column, (low, high) in RANGES.items():
        for position, number in enumerate(table.get(column, ())):
            if number < low or number > high:
                mend = f"it must be between {low:g} and {high:g}{', a share: 41 % is 0.41' if 'aa' in column else ''}"
                raise _refuse(table, source, column, position, float(number), mend)
            if 0 < abs(number) < SMALLEST:
                raise _refuse(table, source, column, position, float(number), "write 0, or the number that is meant")
    accuracy = table["multilabel_accuracy"].to_numpy()
    if (accuracy > 1).any() and (shares := np.flatnonzero((accuracy > 0) & (accuracy <= 1))).size:
        mend = "while other rows are in percent; write all of them as shares or all in percent"
        raise _refuse(table, source, "multilabel_accuracy", int(shares[0]), float(accuracy[shares[0]]), mend)


def _flags(table: pd.DataFrame, source: str) -> list[int]:
    flags: list[int] = []
    for position, cell in enumerate(table["big_data"]):
        text = "" if pd.isna(cell) else str(cell).strip().lower()
        if text not in {"0", "1", "0.0", "1.0", "true", "false"}:
            raise _refuse(table, source, "big_data", position, text, "write 1 (pre-trained on a larger set) or 0")
        flags.append(int(text in {"1", "1.0", "true"}))
    return flags


def _check_protocol(table: pd.DataFrame, source: str) -> None:
    if "protocol" not in table:
        return
    names = sorted({protocol if protocol else "(none)" for protocol in table["protocol"]})
    if len(names) > 1:
        raise InputError(
            f"{source}: rows come from {len(names)} protocols ({', '.join(names)}), which never mix in one statistic;"
            " keep the rows of one protocol per table"
        )


def protocol_of(table: pd.DataFrame) -> str | None:
    """Return the one attack protocol of a checked table; None if it names none."""
    names = [str(name) for name in table["protocol"] if name] if "protocol" in table else []
    return names[0] if names else None


def _check_norm(table: pd.DataFrame, source: str) -> None:
    names = sorted({*table["norm"]}) if "norm" in table else []
    if len(names) > 1 or not {*names} <= {"", *NORMS}:
        found = ", ".join(shown(name) for name in names)
        raise InputError(
            f"{source}: norm is {found}; expected one of {', '.join(NORMS)} in all rows, or no such column (l2)"
        )


def norm_of_table(table: pd.DataFrame) -> str:
    """Return the norm that a checked table's PT is in: l2 where the table says none."""
    named = [str(name) for name in table["norm"] if name] if "norm" in table else []
    return named[0] if named else "l2"


def is_standard(table: pd.DataFrame) -> "pd.Series[bool]":
    """Rows of models trained neither against attacks nor towards human maps (docs/methods.md, section Correlations)."""
    return table["group"].isin(STANDARD)


def family(model: str) -> str:
    """Family of a model: the leading name of its architecture, without depth and without who ported it.

    The part before the first `.` is split at `_`; a leading `tf`, `legacy` or `test` is dropped, `wide` stays with its
    successor, and a depth of two or more digits with its variant letters goes, generation numbers (v2, deit3) stay.

    >>> [family(m) for m in ("resnet50d.a3_in1k", "tf_mobilenetv3_small_075.in1k", "deit3_base_patch16_224.fb_in1k")]
    ['resnet', 'mobilenetv3', 'deit3']
    >>> [family(m) for m in ("vit_tiny_patch16_224.augreg_in21k", "wide_resnet50_2_l2_eps0.5", "res2net50_26w_4s")]
    ['vit', 'wide_resnet', 'res2net']
    """
    words = [word for word in model.lower().split(".")[0].split("_") if word]
    while len(words) > 1 and words[0] in NOT_A_FAMILY:
        words = words[1:]
    name = "_".join(words[:2]) if words and words[0] == "wide" else "".join(words[:1])
    return re.sub(r"(?<=[a-z])\d{2,}[a-z]{0,2}$", "", name) or model
