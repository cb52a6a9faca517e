"""The tracking store: where it is, how it is opened, and its experiments."""

import logging
import os
from dataclasses import dataclass

import mlflow
from filelock import FileLock
from mlflow.entities import Run
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from advalign.analysis.report import Tracking
from advalign.errors import InputError
from advalign.files import Project

KINDS = ("train", "evaluate", "compare", "validate")
EXPERIMENTS = {kind: f"advalign/{kind}" for kind in KINDS}
EXPERIMENT_TAGS = {"mlflow.experimentKind": "custom_model_development"}  # the UI opens on runs, not on traces
DATABASE, ARTIFACTS = "mlflow.db", "mlartifacts"


def store_uri(project: Project) -> str:
    """MLFLOW_TRACKING_URI if set; else mlflow.db in the project's root, which a bare `mlflow ui` there reads too."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{project.root / DATABASE}"


@dataclass(frozen=True)
class Store:
    """An opened store with its experiments.

    Attributes:
        experiment_ids: by kind (see `KINDS`).
    """

    client: MlflowClient
    uri: str
    experiment_ids: dict[str, str]

    def find_runs(self, kind: str, tags: dict[str, str], *, finished: bool | None = None) -> list[Run]:
        """Runs of an experiment that carry all the tags, newest first; `finished` restricts the status."""
        parts = [f"tags.`{name}` = '{value}'" for name, value in tags.items()]
        if finished is not None:
            parts.append(f"attributes.status {'=' if finished else '!='} 'FINISHED'")
        found = self.client.search_runs([self.experiment_ids[kind]], " and ".join(parts), max_results=100)
        return list(found)

    def begin_run(self, kind: str, name: str, key: dict[str, str]) -> str:
        """Create a run that is known by its key from the first moment; earlier ones that were cut off are deleted."""
        for run in self.find_runs(kind, key, finished=False):
            self.client.delete_run(run.info.run_id)
        return str(self.client.create_run(self.experiment_ids[kind], run_name=name, tags=key).info.run_id)


def open_store(project: Project) -> Store:
    """Open the store, creating database and experiments on first use (one process at a time).

    Raises:
        InputError: the store cannot be reached or is not usable.
    """
    for noisy in ("alembic", "mlflow.store.db.utils", "mlflow.tracking", "mlflow.models"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    uri = store_uri(project)
    try:
        with FileLock(project.root / ".mlflow.lock"):
            mlflow.set_tracking_uri(uri)
            mlflow.set_registry_uri(uri)
            client = MlflowClient(uri, uri)
            ids = {kind: _experiment(project, client, uri, name) for kind, name in EXPERIMENTS.items()}
    except MlflowException as error:
        raise InputError(f"tracking store {uri} cannot be used: {' '.join(str(error).split())[:200]}") from None
    return Store(client, uri, ids)


def tracking_links(project: Project) -> Tracking:
    """What a report needs to link to runs: the address of the UI and the experiment of the evaluations."""
    uri = store_uri(project)
    url = uri.rstrip("/") if uri.startswith("http") else Tracking.url
    return Tracking(url, open_store(project).experiment_ids["evaluate"])


def _experiment(project: Project, client: MlflowClient, uri: str, name: str) -> str:
    found = client.get_experiment_by_name(name)
    if found is not None:
        if found.lifecycle_stage == "deleted":
            client.restore_experiment(found.experiment_id)
        return str(found.experiment_id)
    # The path of an experiment's artifacts is absolute: on a local store it is set here, a server chooses its own.
    location = (project.root / ARTIFACTS).as_uri() if uri.startswith("sqlite") else None
    return str(client.create_experiment(name, artifact_location=location, tags=EXPERIMENT_TAGS))
