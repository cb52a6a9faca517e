"""Output of commands: tables for people, JSON for programs."""

import json
import math
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import typer

from advalign.errors import InputError
from advalign.vocabulary import describe

TRUST = typer.Option(
    False, "--trust-code", help="Run the code that python: architectures name, without an entry in registry/zoo.yaml."
)
WIDEST = 1 << 20  # characters of a line that nobody reads in a terminal
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
    """Print rows as a table; numbers are aligned right, missing values are a dash; `headings` renames columns.

    Lines break between words where a terminal is too narrow, never inside a name. In a file or a pipe nothing breaks.
    """
    from rich import box
    from rich.cells import cell_len
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD)
    for column in columns:
        numeric = any(isinstance(row.get(column), int | float) for row in rows)
        justify: Literal["left", "right"] = "right" if numeric else "left"
        cells = [_cell(row.get(column)) for row in rows]
        heading = (headings or {}).get(column, column)
        longest = max(cell_len(word) for text in (heading, *cells) for word in text.split() or [""])
        table.add_column(heading, justify=justify, min_width=longest)
    for row in rows:
        table.add_row(*(_cell(row.get(column)) for column in columns))
    console = Console(markup=False, emoji=False)  # cells are text, from outside too
    if sys.stdout is None or not sys.stdout.isatty():  # closed, or no terminal; FORCE_COLOR only asks for colours
        console.width = max(console.measure(table, options=console.options.update(width=WIDEST)).maximum, 1)
    if title:
        console.print(Text(title, "table.title"), soft_wrap=True)
    console.print(table, crop=False)


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
