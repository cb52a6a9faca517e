"""`advalign publish` and `advalign ui`: results into MLflow, and MLflow's own interface on them."""

import sys

import typer

from advalign.cli._output import JSON, print_json
from advalign.errors import CheckFailed, printable


def publish(
    everything: bool = typer.Option(
        False, "--all", help="First copy what only this project's mlflow.db holds, if another store is set."
    ),
    as_json: bool = JSON,
) -> None:
    """Bring the tracking store in line with the results on disk; running it twice changes nothing."""
    from advalign.files import Project
    from advalign.progress import progress
    from advalign.tracking.results import Published
    from advalign.tracking.store import open_store
    from advalign.tracking.transfer import carry_over, local_store
    from advalign.workflows.publish import publish_all

    project = Project.find()
    store = open_store(project)
    shown, source, left_out = printable(store.uri), local_store(project, store) if everything else None, []
    carried = Published()
    if source is not None:
        with progress("copying mlflow.db") as advance:
            left_out = carry_over(project, source, store, carried, advance)
    published = publish_all(project, store)
    left_out += published.left_out
    created, present = carried.created + published.created, carried.present + published.present
    mended = carried.mended + published.mended
    if as_json:
        found = {"created": created, "present": present, "restored": published.restored, "mended": mended}
        print_json({**found, "left_out": left_out, "store": shown})
    else:
        for what in created:
            typer.echo(f"created {what}")
        for what in published.restored:
            typer.echo(f"restored decision {what}")
        for what in mended:
            typer.echo(f"put back the files of {what}, which the store had lost")
        if everything and source is None:
            typer.echo("there is nothing to copy: mlflow.db is absent, or it is the store that is set")
        typer.echo(f"{len(created)} created, {present} already there; store {shown}")
    if left_out:
        raise CheckFailed(f"{len(left_out)} things could not be published: {'; '.join(left_out)}")


def ui(
    port: int = typer.Option(5000, min=1, max=65535, help="Port on this machine."),
    host: str = typer.Option("127.0.0.1", help="Address to listen on."),
) -> None:
    """Open the MLflow UI on the project's store, with one worker and no background jobs."""
    from advalign.files import Project
    from advalign.tracking.interface import serve
    from advalign.tracking.store import open_store

    project = Project.find()
    uri = open_store(project).uri
    if uri.startswith("http"):
        typer.echo(f"the tracking server has the UI: {printable(uri)}")
        return
    raise typer.Exit(serve(uri, project.home, host, port, _say_address))


def _say_address(address: str) -> None:
    typer.echo(f"MLflow UI on {address} (Ctrl-C ends it)")
    sys.stdout.flush()  # it runs on
