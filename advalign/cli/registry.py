"""`advalign registry ...`: registered models."""

from typing import Any

import typer

from advalign.cli._output import JSON, print_json, print_table

app = typer.Typer(help="Registered models and their versions.", no_args_is_help=True)


@app.command("list")
def list_(as_json: bool = JSON) -> None:
    """List registered versions with aliases and headline metrics."""
    from advalign.files import Project
    from advalign.settings import load_settings
    from advalign.tracking.registered import list_models
    from advalign.tracking.store import open_store

    project = Project.find()
    protocol = load_settings(project.root).evaluate.protocol
    rows = list_models(open_store(project))
    if as_json:
        print_json(rows)
        return
    if not rows:
        typer.echo("nothing is registered yet: train a model or run `advalign publish`")
        return
    shown = [_headline(row, protocol) for row in rows]
    print_table(shown, ["name", "version", "aliases", "recipe", "pt", "aa", "accuracy"], f"protocol {protocol}")


def _headline(row: dict[str, Any], protocol: str) -> dict[str, Any]:
    tags = row["tags"]
    names = {
        "pt": "perturbation_tolerance",
        "aa": "adversarial_human_alignment",
        "accuracy": "multilabel_accuracy",
    }
    values = {short: tags.get(f"{protocol}.{name}") for short, name in names.items()}
    numbers = {short: None if value is None else float(value) for short, value in values.items()}
    return {**row, "recipe": tags.get("advalign.recipe"), **numbers}


@app.command()
def show(name: str, as_json: bool = JSON) -> None:
    """Show the versions of a model with everything they say of themselves."""
    from advalign.files import Project
    from advalign.tracking.registered import show_model
    from advalign.tracking.store import open_store

    rows = show_model(open_store(Project.find()), name)
    if as_json:
        print_json(rows)
        return
    for row in rows:
        aliases = f" ({', '.join(row['aliases'])})" if row["aliases"] else ""
        typer.echo(f"{row['name']} version {row['version']}{aliases}, training run {row['run_id']}")
        print_table([{"what": key, "value": value} for key, value in sorted(row["tags"].items())], ["what", "value"])
