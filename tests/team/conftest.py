"""A team's set-up for real: PostgreSQL, an MLflow server with basic authentication, and tiny projects that use it."""

import shutil
from pathlib import Path

import pytest
from mlflow.entities.model_registry import ModelVersion

from advalign import seals
from advalign.data.results import Paths, read_rows, read_summary, stored_identity, write_kept, write_table
from advalign.evaluation.summaries import computed_metrics
from advalign.files import Project, sha256
from advalign.settings import load_settings
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


def evaluation_as(project: Project, name: str, tolerance: float, version: ModelVersion | None = None) -> Path:
    """The small evaluation under another name, with that tolerance, of a version if one is given; its summary."""
    folder = project.evaluations / PROTOCOL
    mine, paths = Paths(folder, NAME), Paths(folder, name)
    summary = read_summary(mine)
    rows = read_rows(mine.rows).assign(model=name)
    rows["norm_l2"] *= tolerance / summary["metrics"]["perturbation_tolerance"]
    write_table(paths.rows, rows, str(stored_identity(mine.rows)), "minimum-norm")
    write_kept(paths.gallery, {}, str(stored_identity(mine.rows)))
    for companion in summary["companions"]:
        shutil.copy(mine.rows_under(companion), paths.rows_under(companion))
    summary |= {"model": name, "rows_sha256": sha256(paths.rows)}
    if version is not None:
        summary |= {key: version.tags[f"advalign.{key}"] for key in ("weights_sha256", "card_sha256")}
    evaluate = load_settings(project.root).evaluate
    seals.write_json(paths.summary, {**summary, "metrics": computed_metrics(summary, paths.rows_under, evaluate)})
    return paths.summary


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
