"""A team's set-up for real: PostgreSQL, an MLflow server with basic authentication, and tiny projects that use it."""

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
from safetensors.torch import save_file

from advalign.files import Project, sha256, write_text
from advalign.tracking.store import Store, open_store
from tests.conftest import REPOSITORY, with_stimuli
from tests.team.postgres import cluster, create_databases
from tests.team.processes import advalign
from tests.team.server import Server

NAME, PROTOCOL = "test_resnet.baseline", "fmn-5"


@pytest.fixture(scope="session")
def databases():
    """The address of a PostgreSQL cluster."""
    with cluster() as address:
        yield address


@pytest.fixture(scope="session")
def session_server(databases, tmp_path_factory):
    """The server; tests take it as `server`."""
    create_databases(databases, "mlflow", "users")
    server = Server(tmp_path_factory.mktemp("server"), f"{databases}/mlflow", f"{databases}/users")
    try:
        server.start()
        server.add_member()
        yield server
    finally:
        server.kill()


@pytest.fixture
def server(session_server):
    """The server, running; a test may kill it."""
    if not session_server.answers():
        session_server.kill()
        session_server.start()
    return session_server


@pytest.fixture(scope="session")
def team_sample(sample_root, tmp_path_factory):
    """A tiny project with a trained and evaluated model, published to its own mlflow.db; to be copied."""
    root = tmp_path_factory.mktemp("team") / "sample"
    with_stimuli(sample_root, root)
    shutil.copy(REPOSITORY / "registry" / "gates.yaml", root / "registry")
    local = {"MLFLOW_TRACKING_URI": None}
    for words in (("train", "baseline"), ("evaluate", NAME, "--protocol", PROTOCOL, "--workers", "1")):
        done = advalign(root, local, *words)
        assert done.wait() == 0, done.errors()
    return root


def evaluation_as(project: Project, name: str, tolerance: float, weights: str | None = None) -> Path:
    """The small evaluation under another name, as if it had been found with that tolerance and weights; its summary."""
    folder = project.evaluations / PROTOCOL
    summary = json.loads((folder / f"{NAME}.json").read_text())
    pd.read_parquet(folder / f"{NAME}.parquet").assign(model=name).to_parquet(folder / f"{name}.parquet")
    save_file({}, folder / "gallery" / f"{name}.safetensors")
    summary["metrics"]["perturbation_tolerance"] = tolerance
    rows = sha256(folder / f"{name}.parquet")
    summary |= {"model": name, "rows_sha256": rows, "weights_sha256": weights or summary["weights_sha256"]}
    write_text(folder / f"{name}.json", json.dumps(summary))
    return folder / f"{name}.json"


@pytest.fixture
def root(team_sample, tmp_path):
    """A tiny project of this test's own."""
    return shutil.copytree(team_sample, tmp_path / "project")


@pytest.fixture
def member(server, monkeypatch) -> dict[str, str | None]:
    """This process and, by what is returned, others work with the server."""
    for name, value in server.member.items():
        monkeypatch.setenv(name, str(value))
    return server.member


@pytest.fixture
def store(root, member) -> Store:
    """The server's store, opened from the project."""
    return open_store(Project(root))
