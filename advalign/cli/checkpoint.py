"""`advalign checkpoint ...`: weights to and from the formats of other software."""

from pathlib import Path

import typer

from advalign import catalog
from advalign.cli._candidate import candidate_line, make_candidate
from advalign.cli._output import JSON, print_json
from advalign.errors import unknown_name

PRETRAINED = "pretrained"
RECIPES = (PRETRAINED, *catalog.names("recipe"))

app = typer.Typer(help="Weights to and from other software: robustness, timm, safetensors.", no_args_is_help=True)


@app.command()
def export(
    model: str = typer.Argument(..., help="Trained name, checkpoint folder, or models:/NAME@alias."),
    file: Path = typer.Argument(
        ..., help="*.ckpt: as the robustness package saves it; *.pth, *.pt, *.safetensors: timm's state dictionary."
    ),
    replace: bool = typer.Option(False, "--replace", help="Replace FILE if it exists."),
) -> None:
    """Write a checkpoint's weights to FILE; its suffix decides the format."""
    from advalign.files import Project
    from advalign.models.exchange import export_weights
    from advalign.workflows.sources import find_checkpoint

    export_weights(find_checkpoint(Project.find(), model), file, replace)
    typer.echo(f"{model}: weights written to {file}")


@app.command("import")
def import_(
    file: Path = typer.Argument(..., help="Weights: .ckpt, .pth, .pt or .safetensors; nothing in it is unpickled."),
    name: str = typer.Option(
        ..., "--name", help="Published name; its entry in registry/zoo.yaml holds, if there is one."
    ),
    model: str = typer.Option(None, help="Architecture, as for train; for a NAME that is not in the zoo."),
    size: int = typer.Option(None, min=1, help="Side of the input in pixels; default: the published weights'."),
    license_: str = typer.Option(None, "--license", help="Of the weights; default: the zoo's, or unknown."),
    recipe: str = typer.Option(
        None, help=f"How it was trained: {', '.join(RECIPES)}; for a NAME that is not in the zoo."
    ),
    as_json: bool = JSON,
) -> None:
    """Make a checkpoint in outputs/runs from a file of weights and register it in MLflow."""
    from advalign.data.classes import DECISIONS, read_classes
    from advalign.files import Project
    from advalign.models.exchange import Stated, import_weights
    from advalign.workflows.sources import class_cards

    project = Project.find()
    classes = class_cards(read_classes(project.need_data(project.data / "classes.yaml")))
    stated = Stated(model, size, license_, recipe, *_said_by(recipe, model))
    card = import_weights(project, file, name, stated, classes, DECISIONS)
    folder, done = project.runs / card.name, f"{card.name}: imported from {file.name}"
    version = make_candidate(project, folder, done)
    if as_json:
        where = {"checkpoint": str(folder.relative_to(project.root)), "version": version}
        said = card.model_dump(mode="json", exclude={"classes", "decisions", "metrics", "settings"})
        print_json({**said, **where})
        return
    typer.echo(candidate_line(project, folder, done, version))


def _said_by(recipe: str | None, architecture: str | None) -> tuple[str | None, str | None]:
    """Group and baseline of a model of an architecture, as its recipe says them.

    Raises:
        InputError: unknown recipe.
    """
    if recipe in (None, PRETRAINED):
        return None, None
    if recipe not in RECIPES:
        raise unknown_name("recipe", str(recipe), RECIPES)
    from advalign.recipes.base import STANDARD_GROUP

    found = catalog.load("recipe", recipe)
    group = None if found.group == STANDARD_GROUP else found.group
    return group, found.baseline(architecture) if architecture else None
