"""`advalign train RECIPE`: train, write a checkpoint, register a version."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import typer

from advalign import catalog
from advalign.cli._output import JSON, TRUST, print_json, print_table
from advalign.errors import InputError, shown, unknown_name
from advalign.strict_files import parse_yaml

if TYPE_CHECKING:  # torch is imported when the command runs
    from advalign.files import Project
    from advalign.settings import Settings, Training
    from advalign.workflows.tracked_training import Tracked


def parse_eps(text: str) -> float:
    """Read a radius: a number or a fraction such as 2/255.

    >>> parse_eps("2/255") == 2 / 255
    True

    Raises:
        InputError: not a positive number.
    """
    from advalign.strict_csv import parse_number
    from advalign.strict_settings import fraction

    try:
        for part in text.split("/", 1):
            parse_number(part)
        eps = fraction(text)
    except ValueError:
        eps = math.nan
    if not math.isfinite(eps):
        raise InputError(f"--eps: expected a number such as 0.25 or 2/255, got {shown(text)}")
    if eps <= 0:
        raise InputError(f"--eps: expected a radius above 0, got {eps:g}")
    return eps


def train(
    recipe: str = typer.Argument(..., help=f"One of: {', '.join(catalog.names('recipe'))}."),
    model: str = typer.Option(
        "test_resnet", help="Architecture: a timm name, torchvision:NAME or python:package.module:function."
    ),
    eps: str = typer.Option(None, help="Radius of the ball (robust, adversarial, combined): 0.25, or 2/255."),
    constraint: str = typer.Option(None, help="l2 or linf (robust, adversarial, combined)."),
    epochs: int = typer.Option(None, min=1, help="Default: the settings'."),
    seed: int = typer.Option(None, min=0, max=2**31 - 1, help="Default: params.yaml."),
    changes: list[str] = typer.Option(
        [], "--set", metavar="KEY=VALUE", help="Any key of params.yaml's train, or of the recipe; may be repeated."
    ),
    settings_of: Literal["published", "params"] = typer.Option(
        "published",
        "--settings",
        help="published: registry/trainings.yaml if it lists the model, else params.yaml; params: params.yaml.",
    ),
    device: str = typer.Option("auto", help="auto, cpu, cuda, cuda:1, ..."),
    resume: bool = typer.Option(True, "--resume/--restart", help="Resume an interrupted training, or start again."),
    dry_run: bool = typer.Option(
        False, "--dry-run", help="Only print the settings and the arithmetic of the training."
    ),
    trust: bool = TRUST,
    as_json: bool = JSON,
) -> None:
    """Train a model with a recipe, write a checkpoint to outputs/runs and register it in MLflow.

    Several GPUs: torchrun --nproc-per-node 8 --no-python advalign train ...
    """
    given = {"eps": eps and parse_eps(eps), "constraint": constraint, "epochs": epochs}
    values = {name: value for name, value in given.items() if value is not None} | changes_of(changes)
    from advalign.files import Project
    from advalign.models.origins.python import trust_code
    from advalign.settings import load_settings
    from advalign.training.plan import as_published, plan, settled
    from advalign.training.world import is_first
    from advalign.workflows.tracked_training import train_tracked

    if trust:
        trust_code()
    project = Project.find()
    settings = load_settings(project.root)
    typed = settled(_training(recipe, model, values))
    training = as_published(project, settings, typed) if settings_of == "published" else typed
    if not as_json and is_first():
        _say_whose(project, training, listed=training is not typed)
    if dry_run:
        _print_estimate(project, settings, training, as_json)
        return
    planned = plan(project, settings, training, seed)
    folder = project.runs / planned.name
    tracked = train_tracked(project, planned, folder, device=device, resume=resume)
    if is_first():
        _publish(project, folder, tracked, as_json)


def changes_of(changes: list[str]) -> dict[str, Any]:
    """The keys and values of --set, read as YAML.

    Raises:
        InputError: not KEY=VALUE.
    """
    values = {}
    for change in changes:
        key, equals, text = change.partition("=")
        try:
            values[key] = parse_yaml(text, "--set")
        except InputError:
            equals = ""
        if not equals or not key:
            raise InputError(f"--set: expected KEY=VALUE such as batch_size=128, got {shown(change)}")
    return values


def _training(recipe: str, model: str, values: dict[str, Any]) -> "Training":
    """A training with each value in its place: the recipe's settings, or those that all recipes share.

    Raises:
        InputError: unknown recipe, or a key that is in neither.
    """
    from advalign.settings import Training, TrainSettings

    of_recipe, shared = catalog.load("recipe", recipe).Settings.model_fields, TrainSettings.model_fields
    for key in values:
        if key not in of_recipe and key not in shared:
            raise unknown_name(f"setting of recipe {recipe}", key, [*of_recipe, *shared])
    overrides = {key: value for key, value in values.items() if key in of_recipe}
    train = {key: value for key, value in values.items() if key not in of_recipe}
    return Training(model=model, recipe=recipe, overrides=overrides, train=train)


def _say_whose(project: "Project", training: "Training", listed: bool) -> None:
    """Say where the settings come from, if the published list has trainings of the architecture."""
    from advalign.settings import read_trainings

    if listed:
        typer.echo("settings: registry/trainings.yaml")
    elif any(one.model == training.model for one in read_trainings(project.trainings).values()):
        typer.echo(f"settings: params.yaml (registry/trainings.yaml lists other trainings of {training.model})")


def _print_estimate(project: "Project", settings: "Settings", training: "Training", as_json: bool) -> None:
    from advalign.analysis.published import read_published
    from advalign.training.cost import estimate

    row = estimate(project, settings, training)
    table = project.home / "registry" / "published" / "feng2025.yaml"
    published = read_published(table).models.get(row["name"]) if table.is_file() else None
    row |= {"published_pt": published and published.pt, "published_aa": published and published.aa}
    if as_json:
        print_json(row)
        return
    for part, values in row.pop("settings").items():
        typer.echo(f"{part}: " + ", ".join(f"{key} {value}" for key, value in values.items()))
    print_table([row], list(row))


def _publish(project: "Project", folder: Path, tracked: "Tracked", as_json: bool) -> None:
    """Register the trained model and print its version."""
    from advalign.cli._candidate import candidate_line, make_candidate

    card = tracked.card
    state = "trained" if tracked.trained else "already trained with these settings"
    done = f"{card.name}: {state}, val accuracy {card.metrics['val_accuracy']:.3f}"
    version = make_candidate(project, folder, done, tracked.outage)
    if not as_json:
        typer.echo(candidate_line(project, folder, done, version))
        return
    told = {"name": card.name, "trained": tracked.trained, "checkpoint": str(folder.relative_to(project.root))}
    print_json({**told, "version": version, "metrics": card.metrics})
