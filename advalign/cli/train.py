"""`advalign train RECIPE`: train, write a checkpoint, register a version."""

import math
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from advalign import catalog
from advalign.errors import InputError, shown

if TYPE_CHECKING:  # torch is imported when the command runs
    from advalign.files import Project
    from advalign.tracking.training_run import Tracked


def parse_eps(text: str) -> float:
    """Read a radius: a number or a fraction such as 2/255.

    >>> parse_eps("2/255") == 2 / 255
    True

    Raises:
        InputError: not a positive number.
    """
    try:
        eps = float(Fraction(text)) if "/" in text else float(text)
    except (ValueError, ZeroDivisionError, OverflowError):
        eps = math.nan
    if not math.isfinite(eps):
        raise InputError(f"--eps: expected a number such as 0.25 or 2/255, got {shown(text)}")
    if eps <= 0:
        raise InputError(f"--eps: expected a radius above 0, got {eps:g}")
    return eps


def train(
    recipe: str = typer.Argument(..., help=f"One of: {', '.join(catalog.names('recipe'))}."),
    model: str = typer.Option("test_resnet", help="Architecture, by its timm name."),
    eps: str = typer.Option(None, help="Radius of the ball (robust, combined): 0.25, or 2/255 for linf."),
    constraint: str = typer.Option(None, help="l2 or linf (robust, combined)."),
    epochs: int = typer.Option(None, min=1, help="Default: params.yaml."),
    seed: int = typer.Option(None, min=0, help="Default: params.yaml."),
    device: str = typer.Option("auto", help="auto, cpu, cuda, cuda:1, ..."),
    resume: bool = typer.Option(True, "--resume/--restart", help="Continue a training that was cut off."),
) -> None:
    """Train a model with a recipe, write a checkpoint to outputs/runs, register it in MLflow."""
    catalog.load("recipe", recipe)
    overrides: dict[str, Any] = {}
    if eps is not None:
        overrides["eps"] = parse_eps(eps)
    if constraint is not None:
        overrides["constraint"] = constraint
    from advalign.files import Project
    from advalign.settings import Training, load_settings
    from advalign.tracking.training_run import train_tracked
    from advalign.training.train import plan

    project = Project.find()
    settings = load_settings(project.root)
    if epochs is not None:
        settings = settings.model_copy(update={"train": settings.train.model_copy(update={"epochs": epochs})})
    planned = plan(project, settings, Training(model=model, recipe=recipe, overrides=overrides), seed)
    tracked = train_tracked(project, planned, project.runs / planned.name, device=device, resume=resume)
    _publish(project, project.runs / planned.name, tracked)


def _publish(project: "Project", folder: Path, tracked: "Tracked") -> None:
    """Register what was trained and say so; where the store is down, say what is kept and how it gets there."""
    from advalign.tracking.publish import Published, propose, publish_checkpoint
    from advalign.tracking.store import StoreDown, open_store

    card = tracked.card
    state = "trained" if tracked.trained else "already trained with these settings"
    done = f"{card.name}: {state}, val accuracy {card.metrics['val_accuracy']:.3f}"
    shown = folder.relative_to(project.root)
    try:
        if tracked.outage:
            raise StoreDown(tracked.outage)
        store = open_store(project)
        version = publish_checkpoint(project, store, folder, Published())
        propose(store, version)  # also where these weights were registered before
    except StoreDown as error:
        kept = f"the checkpoint is kept in {shown}, and `advalign publish` brings it to the store"
        raise StoreDown(f"{done}; {error}; nothing is lost: {kept}") from error
    typer.echo(f"{done}; checkpoint {shown}, models:/{card.name}@candidate is version {version.version}")
