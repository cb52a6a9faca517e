"""`advalign data export ...`: what was made of the data, in formats that others read."""

from pathlib import Path
from typing import Literal

import typer

from advalign.cli._output import JSON, print_json

app = typer.Typer(help="Human maps in the format of ClickMe.", no_args_is_help=True)


@app.callback()
def group() -> None:
    """Export."""


@app.command()
def clickme(
    folder: Path = typer.Argument(..., metavar="DIR", help="Absent or empty folder to write the shards into."),
    images: Path = typer.Option(..., metavar="DIR", help="Folder that the images are in, or below."),
    split: Literal["train", "val", "test"] = typer.Option(..., help="That the shards are named after."),
    shard_size: int = typer.Option(500, min=1, help="Most records of a shard."),
    png: bool = typer.Option(False, "--png", help="Lossless heatmaps (default: JPEG, as ClickMe's are)."),
    as_json: bool = JSON,
) -> None:
    """Write the maps of data/participants as ClickMe shards, with ceiling.yaml."""
    from advalign.data.human_maps.export import export_clickme
    from advalign.files import Project
    from advalign.progress import progress
    from advalign.settings import load_settings

    project = Project.find()
    with progress("exporting") as advance:
        done = export_clickme(project, load_settings(project.root), folder, images, split, shard_size, png, advance)
    if as_json:
        print_json(done.as_json())
        return
    typer.echo(
        f"{done.records} maps in {done.shards} shards in {folder}, human ceiling {done.human_ceiling:.5f}: "
        f"{done.converted} images were encoded as JPEG\n"
        f"next: `advalign data import clickme {folder}` in the project that is to use them"
    )
