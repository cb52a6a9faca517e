"""Output of commands: tables for people, JSON for programs."""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import typer

from advalign.errors import InputError
from advalign.vocabulary import describe

TRUST = typer.Option(
    False, "--trust-code", help="Run the code that python: architectures name, without an entry in registry/zoo.yaml."
)
JSON = typer.Option(False, "--json", help="Print JSON instead of a table.")


def print_json(value: Any) -> None:
    """Print a value as JSON; NaN becomes null."""
    typer.echo(json.dumps(_plain(value), indent=1))


def headings(metrics: Sequence[str]) -> dict[str, str]:
    """Headings of metrics in a terminal's table, by their short names.

    >>> headings(["pt", "n_valid", "aa_raw"])
    {'pt': 'pt', 'n_valid': 'n', 'aa_raw': 'aa raw'}
    """
    found = {}
    for short in metrics:
        try:
            found[short] = describe(short).label.lower()
        except InputError:  # a number that no vocabulary has: its own name serves
            found[short] = short
    return found


def print_table(
    rows: Sequence[Mapping[str, Any]],
    columns: Sequence[str],
    title: str = "",
    headings: Mapping[str, str] | None = None,
) -> None:
    """Print rows as a table; numbers are aligned right, missing values are a dash; `headings` renames columns."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title or None, box=box.SIMPLE_HEAD, title_justify="left")
    for column in columns:
        numeric = any(isinstance(row.get(column), int | float) for row in rows)
        justify: Literal["left", "right"] = "right" if numeric else "left"
        table.add_column((headings or {}).get(column, column), justify=justify, overflow="fold")
    for row in rows:
        table.add_row(*(_cell(row.get(column)) for column in columns))
    console = Console(markup=False, emoji=False)  # cells are text, from outside too
    if not console.is_terminal:
        console.width = 160
    console.print(table)


def _cell(value: Any) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "-"
    if isinstance(value, float):
        return f"{value:.3f}"
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return "".join(one if one.isprintable() or one == "\n" else ascii(one)[1:-1] for one in text)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
