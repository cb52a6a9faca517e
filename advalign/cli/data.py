"""`advalign data ...`: the sample data set, and the validation of stimuli, maps, labels, responses and evaluations."""

from pathlib import Path
from typing import Literal

import typer

from advalign.cli import data_export, data_import
from advalign.cli._output import JSON, print_json, print_table

app = typer.Typer(help="Sample data, import of real data, validation.", no_args_is_help=True)
app.add_typer(data_import.app, name="import")
app.add_typer(data_export.app, name="export")


@app.command()
def sample(
    output: Path = typer.Option(Path("data"), help="Empty or absent folder to write into."),
    world: Literal["main", "cifar"] = typer.Option("main", help="cifar: that of experiments/robustsight."),
    seed: int | None = typer.Option(
        None, min=0, help="Seed of the drawings; the default gives the committed sample.", show_default=False
    ),
    scale: float = typer.Option(1.0, min=0.01, max=20.0, help="Size relative to the committed sample."),
) -> None:
    """Regenerate a sample data set: drawn images with human maps, or 32x32 images with object masks."""
    from advalign.data.sample.cifar_world import WorldSettings, generate_world
    from advalign.data.sample.generate import SampleSettings, generate_sample
    from advalign.progress import progress

    seeded = {} if seed is None else {"seed": seed}
    with progress("drawing") as advance:
        if world == "cifar":
            generate_world(output, WorldSettings(scale=scale, **seeded), advance)
        else:
            generate_sample(output, SampleSettings(scale=scale, **seeded), advance)
    typer.echo(f"sample data set in {output}; to version it: dvc add {output}")


@app.command()
def sheet(output: Path = typer.Argument(..., help="JPEG to write.")) -> None:
    """Draw the contact sheet of the sample's categories."""
    from advalign.data.sample.sheet import write_contact_sheet

    write_contact_sheet(output)
    typer.echo(f"contact sheet in {output}")


@app.command()
def validate(
    docs: Path | None = typer.Option(
        None, help="Write Great Expectations' Data Docs into this absent or empty folder."
    ),
    log: bool = typer.Option(False, "--log", help="Log the result, and the Data Docs, as an MLflow run."),
    as_json: bool = JSON,
) -> None:
    """Check stimuli, maps, labels, responses and evaluations against declared expectations; exit 1 if any fails."""
    from advalign.data.expectations import validate as check
    from advalign.errors import CheckFailed
    from advalign.files import Project
    from advalign.settings import load_settings

    project = Project.find()
    settings = load_settings(project.root)
    validation = check(project, settings, evaluations=True, docs=docs)
    if log:
        from advalign.workflows.validation_run import log_validation

        log_validation(project, settings, validation, docs)
    index = str(docs.resolve() / "index.html") if docs else None
    if as_json:
        print_json({**validation.as_json(), "docs": index})
    elif validation.failures:
        rows = [{**vars(failure), "examples": failure.told} for failure in validation.failures]
        print_table(rows, ["table", "column", "why", "unexpected", "examples"])
    else:
        typer.echo(f"{sum(validation.checked.values())} expectations hold ({', '.join(validation.checked)})")
    if index and not as_json:
        typer.echo(f"Data Docs: {index}")
    if not validation.success:
        raise CheckFailed(f"{len(validation.failures)} expectations failed")


@app.command()
def reliability(
    name: str = typer.Argument(..., help="Of a set of responses: data/responses/NAME.h5."),
    bootstrap: int = typer.Option(1000, min=100, help="Resamples of the images, for the intervals."),
    seed: int = typer.Option(0, min=0, help="Seed of the resamples."),
    as_json: bool = JSON,
) -> None:
    """Report how well repeats of an image agree, per area and subject, before anything is compared with them."""
    from advalign.data.reliability import reliability as measure
    from advalign.data.reliability import unreliable
    from advalign.data.responses import ResponseStore, need_responses
    from advalign.files import Project

    store = ResponseStore.open(need_responses(Project.find(), name))
    areas, _ = measure(store, bootstrap, seed)
    weak = unreliable(areas)
    if as_json:
        print_json(
            {
                "name": name,
                "provenance": store.provenance,
                "normalisation": store.normalisation,
                "areas": [area.as_json() for area in areas],
                "unreliable": weak,
            }
        )
        return
    columns = ["subject", "roi", "units", "images", "trials", "split-half", "95 %", "ceiling", "95 % ", "above zero"]
    title = f"{name}: {store.provenance} responses, {store.normalisation}"
    print_table([dict(zip(columns, area.cells, strict=True)) for area in areas], columns, title)
    if weak:
        typer.echo(f"reliability is not above zero in {', '.join(weak)}: no target for training")
    if all(area.above_zero is None for area in areas):
        typer.echo("no image is repeated: reliability is unknown")
