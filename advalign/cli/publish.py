"""`advalign publish` and `advalign ui`: results into MLflow, and MLflow's own interface on them."""

import os
import subprocess
import sys

import typer

from advalign.cli._output import JSON, print_json


def publish(as_json: bool = JSON) -> None:
    """Bring the tracking store in line with the results on disk; doing it twice changes nothing."""
    from advalign.files import Project
    from advalign.tracking.publish import publish_all
    from advalign.tracking.store import open_store

    project = Project.find()
    store = open_store(project)
    published = publish_all(project, store)
    if as_json:
        print_json({"created": published.created, "present": published.present, "store": store.uri})
        return
    for what in published.created:
        typer.echo(f"created {what}")
    typer.echo(f"{len(published.created)} created, {published.present} were there already; store {store.uri}")


def ui(
    port: int = typer.Option(5000, min=1, max=65535, help="Port on this machine."),
    host: str = typer.Option("127.0.0.1", help="Address to listen on."),
) -> None:
    """Open the MLflow UI on the project's store, with one worker and no background jobs."""
    from advalign.files import Project
    from advalign.tracking.store import open_store

    project = Project.find()
    uri = open_store(project).uri
    typer.echo(f"MLflow UI on http://{host}:{port} (Ctrl-C ends it)")
    command = [sys.executable, "-m", "mlflow", "ui", "--backend-store-uri", uri, "--host", host, "--port", str(port)]
    lean = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    raise typer.Exit(subprocess.call([*command, "--workers", "1"], env=lean, cwd=project.root))
