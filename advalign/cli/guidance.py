"""`advalign guidance`: does guidance by brain responses make networks more robust, and is it the responses that do?"""

import typer

from advalign.cli._output import JSON, print_json

app = typer.Typer(no_args_is_help=True, help="Guidance by brain responses: studies with all their controls.")


@app.callback()
def group() -> None:
    """Guidance by brain responses: studies with all their controls."""


@app.command("study")
def study(
    name: str = typer.Argument(None, help="A study of params.yaml (guidance); default: the only one."),
    seeds: int = typer.Option(None, min=1, help="Seeds of every arm; default: params.yaml."),
    limit: int = typer.Option(None, min=2, help="Minimum norms of the first N images only; default: params.yaml."),
    device: str = typer.Option("auto", help="auto, cpu, cuda, ..."),
    as_json: bool = JSON,
) -> None:
    """Train and evaluate guided models with all their controls, and write what can be said of each area."""
    from advalign.files import Project
    from advalign.settings import load_settings
    from advalign.workflows.guidance import Guidance, chosen, run_guidance

    project = Project.find()
    settings = load_settings(project.root)
    name, asked = chosen(settings, name)
    changes = {"seeds": seeds, "control_seeds": seeds, "images": limit}
    asked = asked.model_copy(update={key: value for key, value in changes.items() if value is not None})
    judgements = run_guidance(project, settings, name, asked, device)
    if as_json:
        print_json({one.norm: one.sentences for one in judgements})
        return
    for one in judgements:
        typer.echo(f"{one.norm}:")
        typer.echo("".join(f"  {sentence}\n" for sentence in one.sentences), nl=False)
    folder = Guidance(project.root, name).folder.relative_to(project.root)
    typer.echo(f"page, figures and tables: {folder}")
