"""Cost of checking what is read: the share of a command's time that seals, digests and recomputed numbers take."""

import contextlib
import io
import time
from collections.abc import Callable, Iterator
from typing import Any
from unittest.mock import patch

from typer.testing import CliRunner

from advalign import inputs, seals
from advalign.analysis.comparison import compare
from advalign.cli.main import app
from advalign.errors import InputError
from advalign.evaluation import summaries
from advalign.files import Project
from advalign.settings import load_settings
from benchmarks.attacks import markdown

CHECKS = (
    (seals, "_place"), (seals, "_seal"), (inputs, "_recall"), (inputs, "_read"), (inputs, "_remember"),
    (inputs, "_listed"), (summaries, "metrics_of"),
)  # fmt: skip
"""Where the time goes: modules and functions; none of them calls another."""


def report(project: Project) -> Iterator[str]:
    """A row per command: its time on finished results, and the share of it that is spent on checks."""
    if not any(project.evaluations.glob("*/*.json")):
        raise InputError("outputs/evaluations is missing: `make repro` first")
    settings = load_settings(project.root)
    commands: dict[str, Callable[[], Any]] = {
        "evaluate, everything finished": lambda: CliRunner().invoke(app, ["evaluate"], catch_exceptions=False),
        "compare": lambda: compare(project, settings),
    }
    rows = []
    for name, command in commands.items():
        command_share(command)  # warms up
        rows.append((name, f"{min(command_share(command) for _ in range(5)):.1%}"))
    yield markdown(("command", "checks / whole command"), rows)


def command_share(command: Callable[[], Any]) -> float:
    """Time in `CHECKS` divided by the time of a command."""
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
        patched.enter_context(contextlib.redirect_stdout(io.StringIO()))
        start = time.perf_counter()
        command()
        return spent[0] / (time.perf_counter() - start)
