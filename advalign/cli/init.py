"""`advalign init DIR`: a new project from the installed package."""

from pathlib import Path

import typer

from advalign.cli._output import JSON, print_json


def init(
    folder: Path = typer.Argument(..., metavar="DIR", help="New folder, or an empty one."),
    as_json: bool = JSON,
) -> None:
    """Write a new project: params.yaml, dvc.yaml, registry and a pointer to the sample data."""
    from advalign.new_project import write_project

    written = [str(path) for path in write_project(folder)]
    if as_json:
        print_json({"project": str(folder), "files": written})
        return
    typer.echo(f"{folder}: {', '.join(written)}")
    with_dvc = "git init; dvc init; dvc config core.analytics false; dvc add data; dvc repro"
    typer.echo(f"next: cd {folder}; advalign data sample; {with_dvc}")
