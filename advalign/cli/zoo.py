"""`advalign zoo ...`: the declared models, and which are evaluated."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from advalign.cli._output import JSON, print_json, print_table
from advalign.strict_files import read_json

if TYPE_CHECKING:  # torch and timm are imported when a command needs them
    from advalign.files import Project
    from advalign.models.declared import Zoo

app = typer.Typer(help="The declared zoo: groups, licences, where weights come from, what is evaluated.")
COLUMNS = ["model", "group", "big_data", "license", "parameters", "weights", "evaluated", "failed"]
ZOO = typer.Option(None, "--zoo", help="A zoo file instead of registry/zoo.yaml.")
HEADINGS = {"big_data": "big data", "parameters": "parameters, M"}


@app.command("list")
def list_(
    patterns: list[str] = typer.Argument(None, help="Names or patterns ('resnet*'); default: all."),
    zoo_file: Path = ZOO,
    group: str = typer.Option(None, help="Only one group: cnn, vit, hybrid, ssl, harmonized, robust."),
    as_json: bool = JSON,
) -> None:
    """List models with group, licence, size, and the protocols that they are evaluated under."""
    from advalign.errors import unknown_name
    from advalign.files import Project
    from advalign.models.declared import GROUPS, read_zoo

    project = Project.find()
    zoo = read_zoo(zoo_file or project.zoo)
    if group is not None and group not in GROUPS:
        raise unknown_name("group", group, GROUPS)
    names = [name for name in zoo.select(patterns or []) if group in (None, zoo.models[name].group)]
    rows = [_row(project, zoo, name) for name in names]
    if as_json:
        print_json(rows)
        return
    print_table(rows, COLUMNS, f"{len(rows)} models", HEADINGS)


@app.command()
def show(name: str, zoo_file: Path = ZOO, as_json: bool = JSON) -> None:
    """Show everything that is known about one model."""
    from advalign.errors import InputError, unknown_name
    from advalign.files import Project
    from advalign.models.declared import HUB, read_zoo
    from advalign.models.origins import origin_of
    from advalign.models.origins.timm import current_name
    from advalign.models.published import pretrained_classes

    project = Project.find()
    zoo = read_zoo(zoo_file or project.zoo)
    if name not in zoo.models:
        raise unknown_name("zoo model", name, zoo.models)
    entry = zoo.models[name]
    row = _row(project, zoo, name) | {"architecture": current_name(entry.architecture or name), "recipe": entry.recipe}
    try:
        row |= {**origin_of(row["architecture"]).preprocessing(), **entry.preprocessing}
        if row["weights"] == HUB:
            row["classes_of_hub_weights"] = pretrained_classes(row["architecture"])
    except InputError as error:
        row["architecture"] = str(error)
    if as_json:
        print_json(row)
        return
    print_table([{"what": key, "value": value} for key, value in row.items()], ["what", "value"])


def _row(project: "Project", zoo: "Zoo", name: str) -> dict[str, Any]:
    """A model's row of the list."""
    entry = zoo.models[name]
    protocols = project.evaluations.glob(f"*/{name}.json")
    failures = sorted(project.evaluations.glob(f"*/failed/{name}.json"))
    return {
        "model": name,
        "group": entry.group,
        "big_data": entry.big_data,
        "license": entry.license,
        "parameters": entry.parameters,
        "weights": zoo.weights_of(name),
        "evaluated": sorted(path.parent.name for path in protocols),
        "failed": [path.parent.parent.name for path in failures],
        "errors": [read_json(path)["error"] for path in failures],
    }
