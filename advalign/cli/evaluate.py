"""`advalign evaluate`: attack and score models; finished results are kept."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from advalign.cli._output import JSON, TRUST, headings, print_json, print_table
from advalign.errors import CheckFailed
from advalign.vocabulary import SPREAD, in_norm, norm_measured, short_name

if TYPE_CHECKING:  # torch is imported when the command runs
    from advalign.evaluation.campaign import Outcome, Source
    from advalign.evaluation.runner import Evaluator
    from advalign.files import Project

DRY_COLUMNS = ["model", "state", "passes", "gflop_per_pass", "pflop", "seconds", "error"]
METRICS = (
    "n_valid", "pt", "aa", "decision_accuracy", "multilabel_accuracy", "top1_accuracy", "attack_success_rate",
    "starts_agree",
)  # fmt: skip


def evaluate(
    models: list[str] = typer.Argument(
        None, help="Trained names, checkpoint folders, models:/NAME@alias, zoo names or patterns; default: all trained."
    ),
    zoo: Path = typer.Option(None, help="Evaluate a zoo (registry/zoo.yaml): all models, or those named as MODEL."),
    protocol: str = typer.Option(
        None, help="What to measure (`advalign protocols` lists all); default: in params.yaml."
    ),
    limit: int = typer.Option(
        None, min=1, help="Evaluate the first N items of each image set only: a trial, kept apart."
    ),
    engine: str = typer.Option("local", help="local, or ray: a cluster (RAY_ADDRESS), else one on this machine."),
    device: str = typer.Option("auto", help="auto, cpu, cuda, ..."),
    workers: int = typer.Option(None, min=1, help="Tasks at once; default: by the number of cores or GPUs."),
    prune: bool = typer.Option(False, "--prune", help="Remove each zoo model's weights once it is finished."),
    dry_run: bool = typer.Option(False, "--dry-run", help="Print the cost and run nothing."),
    trust: bool = TRUST,
    as_json: bool = JSON,
) -> None:
    """Measure tolerance, alignment, accuracy or what else a protocol measures, one row per item."""
    from advalign.evaluation.campaign import Campaign
    from advalign.evaluation.engines import create_engine
    from advalign.evaluation.runner import Evaluator
    from advalign.files import Project
    from advalign.models.origins.python import trust_code
    from advalign.progress import progress
    from advalign.settings import load_settings
    from advalign.training.world import choose_device
    from advalign.workflows.sources import find_sources

    if trust:
        trust_code()
    project = Project.find()
    settings = load_settings(project.root)
    chosen = str(choose_device(device))
    evaluator = Evaluator(project, settings, protocol, limit, chosen)
    sources = find_sources(project, evaluator.classes, models or [], zoo)
    _say_what_is_absent(evaluator)
    if dry_run:
        _print_costs(evaluator, sources, as_json)
        return
    runs = create_engine(engine, chosen, settings.evaluate.threads, workers)
    with progress(f"evaluating {len(sources)} models") as advance:
        outcomes = Campaign(evaluator, sources, runs, advance, prune).run()
    _report(project, evaluator, outcomes, as_json)


def _report(project: "Project", evaluator: "Evaluator", outcomes: "list[Outcome]", as_json: bool) -> None:
    """Log and print every model's outcome; a failure sets the exit code, and so does a zoo that is left out whole."""
    rows = _publish(project, evaluator, outcomes)
    columns = _columns(rows)
    print_json(rows) if as_json else print_table(
        rows, columns, f"protocol {evaluator.folder.name}", headings(columns[2:-2])
    )
    failed = sum(outcome.state == "failed" for outcome in outcomes)
    if failed:
        rest = "; the others are finished" if failed < len(outcomes) else ""
        why = next(f": {outcome.error}" for outcome in outcomes if outcome.state == "failed") if failed == 1 else ""
        raise CheckFailed(f"{failed} of {len(outcomes)} models failed{rest}{why}")
    if outcomes and not any(outcome.measured for outcome in outcomes):
        raise CheckFailed(f"nothing is measured; {outcomes[0].name}: {outcomes[0].error}")


def _print_costs(evaluator: "Evaluator", sources: "list[Source]", as_json: bool) -> None:
    from advalign.evaluation.estimate import estimate
    from advalign.progress import progress

    with progress("estimating") as advance:
        costs = estimate(evaluator, sources, advance)
    if as_json:
        print_json(costs)
        return
    print_table(costs, DRY_COLUMNS)
    pflop, hours = (sum(row.get(key, 0.0) for row in costs) for key in ("pflop", "seconds"))
    waiting = sum(row["state"] == "to run" for row in costs)
    typer.echo(
        f"{waiting} of {len(costs)} to run: {pflop:.3g} PFLOP, about {hours / 3600:.2g} hours of one worker here"
    )


def _say_what_is_absent(evaluator: "Evaluator") -> None:
    """What cannot be measured with the present data."""
    for part in evaluator.parts.values():
        for line in part.image_set.absent():
            typer.echo(line, err=True)


def _publish(project: "Project", evaluator: "Evaluator", outcomes: "list[Outcome]") -> list[dict[str, Any]]:
    """Log finished models; return the table's rows."""
    from advalign.data.results import read_summary
    from advalign.tracking.results import Published
    from advalign.tracking.store import open_store
    from advalign.workflows.publish import publish_evaluation

    store = open_store(project)
    rows: list[dict[str, Any]] = [{"model": outcome.name, **vars(outcome)} for outcome in outcomes]
    for row, outcome in zip(rows, outcomes, strict=True):
        if not outcome.measured:
            continue
        paths = evaluator.paths(row["model"])
        publish_evaluation(project, store, paths.summary, evaluator.image_set, Published())
        row |= _headline(read_summary(paths))
    return rows


def _headline(found: dict[str, Any]) -> dict[str, Any]:
    """The table's columns of a model's summary: tolerance and its companions, or the protocol's own numbers.

    Ends of intervals and parts of another number (of a superclass, of a corruption) are in the summary only.
    """
    own = {short_name(name): name for name in found["protocol_metrics"] if not name.endswith(tuple(SPREAD))}
    own = {short: name for short, name in own.items() if not short.startswith("within/")}
    norm = norm_measured(found["protocol_metrics"])
    columns = {one.short: one.name for one in (in_norm(short, norm) for short in METRICS)} if norm else own
    return {
        **{short: _whole(found["metrics"].get(name)) for short, name in columns.items()},
        "flags": ", ".join(found["flags"]),
    }


def _whole(value: float | None) -> float | int | None:
    """A count without its decimals."""
    return int(value) if value is not None and value > 1 and value == int(value) else value


def _columns(rows: list[dict[str, Any]]) -> list[str]:
    """Model and state first, flags and error last, every number in between."""
    ends = ("model", "name", "state", "flags", "error")
    numbers = dict.fromkeys(key for row in rows for key in row if key not in ends)
    return ["model", "state", *numbers, "flags", "error"]
