"""`advalign evaluate`: attack and score models; what is finished is kept."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from advalign.cli._output import JSON, print_json, print_table

if TYPE_CHECKING:  # torch is imported when the command runs
    from advalign.evaluation.runner import Evaluator, Outcome
    from advalign.files import Project

DRY_COLUMNS = ["model", "state", "passes", "gflop_per_pass", "pflop", "seconds"]
COLUMNS = ["model", "state", "n_valid", "pt", "aa", "multilabel_accuracy", "attack_success_rate", "flags", "error"]
HEADINGS = {"n_valid": "n", "multilabel_accuracy": "multi-label", "attack_success_rate": "success"}
METRICS = {
    "n_valid": "n_valid",
    "pt": "perturbation_tolerance",
    "aa": "adversarial_human_alignment",
    "multilabel_accuracy": "multilabel_accuracy",
    "attack_success_rate": "attack_success_rate",
}


def evaluate(
    models: list[str] = typer.Argument(
        None, help="Names, checkpoint folders or models:/NAME@alias; default: all that is trained."
    ),
    protocol: str = typer.Option(
        None, help="fmn-fast, fmn-fast-BUDGET, fmn, fmn-STEPS or feng2025-released; default: params.yaml."
    ),
    limit: int = typer.Option(None, min=1, help="Only the first N stimuli: a trial, kept apart."),
    device: str = typer.Option("auto", help="auto, cpu, cuda, ..."),
    workers: int = typer.Option(None, min=1, help="Processes; default: as the cores or GPUs serve."),
    dry_run: bool = typer.Option(False, "--dry-run", help="Only say what would be run."),
    as_json: bool = JSON,
) -> None:
    """Measure perturbation tolerance, alignment and accuracy of models, one row per stimulus."""
    from advalign.errors import CheckFailed
    from advalign.evaluation.engines import local
    from advalign.evaluation.estimate import estimate
    from advalign.evaluation.runner import Evaluator, default_workers
    from advalign.files import Project
    from advalign.progress import progress
    from advalign.settings import load_settings
    from advalign.tracking.registered import resolve_checkpoints
    from advalign.training.train import choose_device

    project = Project.find()
    settings = load_settings(project.root)
    chosen = str(choose_device(device))
    evaluator = Evaluator(project, settings, protocol, limit, chosen)
    subjects = [evaluator.subject(folder) for folder in resolve_checkpoints(project, models or [])]
    if dry_run:
        costs = estimate(evaluator, subjects)
        print_json(costs) if as_json else print_table(costs, DRY_COLUMNS)
        return
    engine = local(workers or default_workers(chosen, settings.evaluate.threads))
    with progress(f"evaluating {len(subjects)} models") as advance:
        outcomes = evaluator.run(subjects, engine, advance)
    rows = _publish(project, evaluator, outcomes)
    print_json(rows) if as_json else print_table(rows, COLUMNS, f"protocol {evaluator.protocol.name}", HEADINGS)
    failed = sum(outcome.state == "failed" for outcome in outcomes)
    if failed:
        raise CheckFailed(f"{failed} of {len(outcomes)} models failed; the others are finished")


def _publish(project: "Project", evaluator: "Evaluator", outcomes: "list[Outcome]") -> list[dict[str, Any]]:
    """Log what is finished; returns the table's rows."""
    from advalign.tracking.publish import Published, publish_evaluation
    from advalign.tracking.store import open_store

    store = open_store(project)
    rows: list[dict[str, Any]] = [{"model": outcome.name, **vars(outcome)} for outcome in outcomes]
    for row in (row for row in rows if row["state"] != "failed"):
        summary = evaluator.paths(row["model"]).summary
        publish_evaluation(project, store, summary, evaluator.stimuli, Published())
        row |= _headline(summary)
    return rows


def _headline(summary: Path) -> dict[str, Any]:
    """What the table shows of a model's summary."""
    found = json.loads(summary.read_text())
    return {
        **{short: found["metrics"].get(name) for short, name in METRICS.items()},
        "flags": ", ".join(found["flags"]),
    }
