"""Cost of checking what is read: the share of a command's time that seals, digests and recomputed numbers take."""

import contextlib
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any
from unittest.mock import patch

from typer.testing import CliRunner

from advalign import inputs, seals
from advalign.cli.main import app
from advalign.errors import InputError
from advalign.evaluation import summaries
from advalign.files import Project
from benchmarks.attacks import markdown

CHECKS = (
    (seals, "_place"), (seals, "_seal"), (inputs, "_recall"), (inputs, "_read"), (inputs, "_remember"),
    (inputs, "_listed"), (summaries, "metrics_of"),
)  # fmt: skip
"""Where the time goes: modules and functions; none of them calls another."""
TURNS = 3


def report(project: Project) -> Iterator[str]:
    """A row per command on finished results: time spent on checks, in units of the whole command as it is typed."""
    if not any(project.evaluations.glob("*/*.json")):
        raise InputError("outputs/evaluations is missing: `make repro` first")
    rows = []
    for words in (["evaluate"], ["compare"]):
        checking(words)  # warms up
        spent = min(checking(words) for _ in range(TURNS))
        rows.append((f"advalign {words[0]}", f"{spent / min(typed(words) for _ in range(TURNS)):.1%}"))
    yield markdown(("command", "checks / whole command"), rows)


def typed(words: list[str]) -> float:
    """Seconds of a command, from its start to its end."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-m", "advalign.cli.main", *words], check=True, capture_output=True)
    return time.perf_counter() - start


def checking(words: list[str]) -> float:
    """Seconds that a command spends in `CHECKS`."""
    spent = [0.0]

    def timed(work: Callable[..., Any]) -> Callable[..., Any]:
        def measured(*arguments: Any, **named: Any) -> Any:
            start = time.perf_counter()
            try:
                return work(*arguments, **named)
            finally:
                spent[0] += time.perf_counter() - start

        return measured

    with contextlib.ExitStack() as patched:
        for module, name in CHECKS:
            patched.enter_context(patch.object(module, name, timed(getattr(module, name))))
        CliRunner().invoke(app, words, catch_exceptions=False)
    return spent[0]
