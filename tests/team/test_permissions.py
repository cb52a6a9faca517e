"""What the team's server refuses: to nobody, to a login without a role, and to a member."""

import os
import re
import subprocess
import sys

import psycopg
import pytest
import requests
from mlflow import MlflowClient

from advalign.files import Project
from advalign.tracking.store import open_store
from advalign.tracking.team_server import FOR_MEMBERS, FOR_READERS
from tests.team.server import MEMBER, MEMBER_PASSWORD, READER, READER_PASSWORD

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("team")]

READS = ("GET", "HEAD", "OPTIONS")
OPEN = re.compile(r"/health|/build/.*|/static-files/.*|/(ajax-)?api/3.0/mlflow/server-info")  # without a login
ONLY_READS = "mary may only read here: an administrator can give the role of a member."


@pytest.fixture(scope="module")
def routes(session_server) -> list[tuple[str, str]]:
    """Method and address of everything that the server answers to, names in addresses replaced by plausible ones."""
    environment = {**os.environ, **session_server.settings, "_MLFLOW_SGI_NAME": "uvicorn"}
    command = [sys.executable, "-m", "tests.team.routes"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    lines = re.sub(r"\{artifact_path(:path)?\}", "0/models/m-1/artifacts/weights", done.stdout).splitlines()
    found = [tuple(re.sub(r"\{\w+(:path)?\}", "0", line).split(" ")) for line in lines]
    assert len(found) > 400
    return found


@pytest.fixture
def store(tmp_path, member):
    """The server's store, opened from an empty project."""
    return open_store(Project(tmp_path))


def ask(server, method: str, path: str, login: tuple[str, str] | None, **body) -> requests.Response:
    return requests.request(method, f"{server.uri}{path}", auth=login, timeout=60, **body)


def all_that_is_stored(server) -> dict[str, object]:
    """Rows of every table of both databases, and the files in the artifacts' folder and beside it."""
    found: dict[str, object] = {"files": sorted(map(str, server.folder.rglob("*")))}
    for address in (server.database, server.users):
        with psycopg.connect(address) as connection:
            names = "select table_name from information_schema.tables where table_schema = 'public'"
            for (name,) in connection.execute(names).fetchall():
                rows = connection.execute(f'select md5(string_agg(t::text, chr(10) order by t::text)) from "{name}" t')
                found[f"{address} {name}"] = rows.fetchone()
    return found


def test_nothing_is_answered_without_a_login(server, routes):
    before = all_that_is_stored(server)
    for method, path in routes:
        if method != "OPTIONS" and not OPEN.fullmatch(path):
            assert ask(server, method, path, None, json={}).status_code == 401, (method, path)
    create = "/api/2.0/mlflow/experiments/create"
    assert ask(server, "POST", create, (MEMBER, "not-her-password"), json={"name": "x"}).status_code == 401
    assert all_that_is_stored(server) == before


def test_without_a_role_every_writing_address_refuses(server, store, routes):
    """Whatever is sent: the bodies are such that MLflow itself would create something."""
    experiment = store.experiment_ids["train"]
    run = store.client.create_run(experiment).info.run_id
    body = {"name": "by-mary", "experiment_id": experiment, "run_id": run, "path": "x.txt", "start_time": 0}
    before = all_that_is_stored(server)
    refused = 0
    for method, path in routes:
        if method in READS or OPEN.fullmatch(path):
            continue
        answer = ask(server, method, path, (READER, READER_PASSWORD), json=body)
        if FOR_READERS.fullmatch(path):
            assert answer.text != ONLY_READS, path
        else:
            assert (answer.status_code, answer.text) == (403, ONLY_READS), (method, path)
            refused += 1
    assert refused > 200
    upload = f"/api/2.0/mlflow-artifacts/artifacts/{experiment}/{run}/artifacts/x.txt"
    assert ask(server, "PUT", upload, (READER, READER_PASSWORD), data=b"x").status_code == 403
    for path in ("mpu/create/0/runs/search", "mpu/complete/0/x", "artifacts/0/runs/search"):  # ends as a search does
        method = "PUT" if path.startswith("artifacts") else "POST"
        answer = ask(server, method, f"/api/2.0/mlflow-artifacts/{path}", (READER, READER_PASSWORD), json={})
        assert (answer.status_code, answer.text) == (403, ONLY_READS)
    create = "/api/2.0/mlflow/experiments/create"
    assert ask(server, "POST", create, (MEMBER, "not-her-password"), json={"name": "x"}).status_code == 401
    assert all_that_is_stored(server) == before


def test_without_a_role_everything_can_be_read(server, store, monkeypatch, tmp_path):
    run = store.client.create_run(store.experiment_ids["train"], run_name="to be read").info.run_id
    store.client.log_metric(run, "pt", 0.5)
    store.client.log_text(run, "as written", "notes.txt")
    store.client.create_registered_model("to-be-read")
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", READER)
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", READER_PASSWORD)
    reader = MlflowClient(server.uri, server.uri)
    (found,) = reader.search_runs([store.experiment_ids["train"]], f"attributes.run_id = '{run}'")
    assert found.data.metrics == {"pt": 0.5}
    path = reader.download_artifacts(run, "notes.txt", str(tmp_path))
    assert open(path).read() == "as written"  # noqa: PTH123, SIM115
    assert [one.name for one in reader.search_registered_models("name = 'to-be-read'")] == ["to-be-read"]
    assert reader.get_experiment_by_name("advalign/train").experiment_id == store.experiment_ids["train"]
    assert reader.search_model_versions("name = 'to-be-read'") == []


def test_a_reader_changes_the_own_password_and_nobody_elses(server):
    new = {"username": READER, "password": "mechanism-of-the-heavens"}
    path, old = "/api/2.0/mlflow/users/update-password", (READER, READER_PASSWORD)
    theirs = {**new, "username": MEMBER}
    assert ask(server, "PATCH", path, old, json=theirs).status_code == 403
    assert ask(server, "PATCH", path, old, json={**new, "current_password": READER_PASSWORD}).status_code == 200
    back = {**new, "password": READER_PASSWORD, "current_password": new["password"]}
    assert ask(server, "PATCH", path, (READER, new["password"]), json=back).status_code == 200


LOCATIONS = ("file:///tmp/elsewhere", "/tmp/elsewhere", "s3://bucket/x", "elsewhere", "../elsewhere", "ftp://host/x")
INSIDE = ("mlflow-artifacts:/../elsewhere", "mlflow-artifacts:/0", "http://host/x")


@pytest.mark.parametrize("location", LOCATIONS + INSIDE)
def test_nobody_chooses_where_artifacts_are(server, location):
    before = all_that_is_stored(server)
    for login in ((MEMBER, MEMBER_PASSWORD), ("admin", "first-of-all")):
        for api in ("api", "ajax-api"):
            for field in ("artifact_location", "artifactLocation"):  # MLflow reads both
                body = {"name": "elsewhere", field: location}
                answer = ask(server, "POST", f"/{api}/2.0/mlflow/experiments/create", login, json=body)
                assert answer.status_code == 403
                assert answer.text.startswith("This server chooses where artifacts are stored")
    assert all_that_is_stored(server) == before


SOURCES = (*LOCATIONS, "http://host/x", "file:/etc", "models:/../../etc", "runs:/0/../../etc", "mlflow-artifacts:/../x")


@pytest.mark.parametrize("source", SOURCES)
def test_a_version_comes_from_this_server(server, store, source):
    if not store.client.search_registered_models("name = 'from-here'"):
        store.client.create_registered_model("from-here")
    run = store.client.create_run(store.experiment_ids["train"]).info.run_id
    for more in ({}, {"run_id": run}):
        body = {"name": "from-here", "source": source, **more}
        answer = ask(server, "POST", "/api/2.0/mlflow/model-versions/create", (MEMBER, MEMBER_PASSWORD), json=body)
        assert answer.status_code in (400, 500), answer.text  # 500: MLflow cannot read such an address
    assert store.client.search_model_versions("name = 'from-here'") == []


def test_no_tag_moves_a_traces_artifacts(server, store):
    """MLflow takes the place of a trace's artifacts from a tag, which a second start of the trace would overwrite."""
    location = {"type": "MLFLOW_EXPERIMENT", "mlflow_experiment": {"experiment_id": store.experiment_ids["train"]}}
    info = {"trace_id": "tr-1", "trace_location": location, "request_time": "2026-11-30T00:00:00Z", "state": "OK"}
    tags = {"mlflow.artifactLocation": "file:///tmp/elsewhere"}
    for login, tagged in ((("admin", "first-of-all"), {}), ((MEMBER, MEMBER_PASSWORD), {"tags": tags})):
        body = {"trace": {"trace_info": {**info, **tagged}}}
        answer = ask(server, "POST", "/api/3.0/mlflow/traces", login, json=body)
    assert answer.status_code == 403
    with psycopg.connect(server.database) as connection:
        rows = connection.execute("select value from trace_tags where key = 'mlflow.artifactLocation'").fetchall()
    assert [value.startswith("mlflow-artifacts:/") for (value,) in rows] == [True]


def test_what_members_do_not_work_with_is_for_administrators(server, routes):
    """Traces, prompts' optimisation, scorers, the gateway, the assistant, users, roles, webhooks and the rest."""
    before = all_that_is_stored(server)
    families = set()
    for method, path in routes:
        if method in READS or OPEN.fullmatch(path) or FOR_READERS.fullmatch(path) or FOR_MEMBERS.fullmatch(path):
            continue
        answer = ask(server, method, path, (MEMBER, MEMBER_PASSWORD), json={"name": "by-ada", "experiment_id": "0"})
        said = "Members work with experiments, runs and models: this is for administrators."
        assert (answer.status_code, answer.text) == (403, said), (method, path)
        families.add(path.split("/mlflow/")[-1].split("/")[0])
    assert {"traces", "users", "roles", "webhooks", "gateway", "scorers", "assistant", "demo", "workspaces"} <= families
    assert all_that_is_stored(server) == before


def command_lines(session: int) -> list[str]:
    """Of all processes of a session."""
    listed = subprocess.run(
        ["ps", "-ww", "-s", str(session), "-o", "args="], capture_output=True, text=True, check=True
    )
    return listed.stdout.splitlines()


def test_no_command_line_shows_a_password(server):
    lines = command_lines(server.process.pid)
    assert len(lines) >= 4, lines  # mlflow, uvicorn and two workers
    secrets = ("of-the-tests", "first-of-all", server.settings["MLFLOW_FLASK_SERVER_SECRET_KEY"])
    assert not [line for line in lines for secret in secrets if secret in line]
