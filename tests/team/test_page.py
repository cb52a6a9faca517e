"""The commands of docs/team.md for people and for a back-up, as they stand there."""

import os
import re
import subprocess

import mlflow
import psycopg
import pytest

from tests.team.postgres import create_databases, programs
from tests.team.server import ADMIN_PASSWORD, MEMBER, MEMBER_PASSWORD, PAGE, Server, block

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("team")]


@pytest.fixture(scope="module")
def fresh(databases, tmp_path_factory):
    """A server that nobody has a login to yet, except for its administrator."""
    create_databases(databases, "page", "page_users")
    server = Server(tmp_path_factory.mktemp("page"), f"{databases}/page", f"{databases}/page_users")
    try:
        server.start()
        yield server
    finally:
        server.kill()


def run_block(server: Server, word: str) -> str:
    """Run the page's block of commands that has a word, for this server; what it prints."""
    (found,) = (one for one in re.findall(r"^```sh once\n(.*?)^```", PAGE.read_text(), re.M | re.S) if word in one)
    database = re.search(r":(\d+)/", server.database.partition("@")[2])
    assert database is not None
    ours = {"127.0.0.1:5000": f"127.0.0.1:{server.port}", "/srv/mlflow": str(server.folder)}
    ours |= {"--username mlflow": "--username lab", "mlflow.dump mlflow\n": "mlflow.dump page\n"}
    ours |= {"mlflow_users.dump mlflow_users": "mlflow_users.dump page_users"}
    for page, value in ours.items():
        found = found.replace(page, value)
    environment = {**os.environ, "PGPORT": database[1], "PATH": f"{programs()}:{os.environ['PATH']}"}
    command = ["bash", "-euc", found]
    done = subprocess.run(command, cwd=server.folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_people_get_their_logins_and_a_member_may_work(fresh, monkeypatch):
    (fresh.folder / "admin.netrc").write_text(block("netrc").replace("ADMIN-PASSWORD", ADMIN_PASSWORD))
    body = re.search(r"@ada.json +# (\{.*?\})", PAGE.read_text())
    assert body is not None
    (fresh.folder / "ada.json").write_text(body[1])
    assert "error_code" not in run_block(fresh, "ask()")
    for name, value in fresh.member.items():
        monkeypatch.setenv(name, str(value))
    client = mlflow.MlflowClient(fresh.uri, fresh.uri)
    run = client.create_run(client.create_experiment("of ada")).info.run_id
    client.delete_run(run)
    assert client.create_registered_model("of-ada").name == "of-ada"


def test_a_members_login_can_be_in_a_file(fresh, monkeypatch, tmp_path):
    (tmp_path / ".mlflow").mkdir()
    (tmp_path / ".mlflow" / "credentials").write_text(block("credentials"))
    assert (MEMBER, MEMBER_PASSWORD) == ("ada", "lovelace-1815")  # as the page has them
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("MLFLOW_TRACKING_USERNAME", raising=False)
    monkeypatch.delenv("MLFLOW_TRACKING_PASSWORD", raising=False)
    assert mlflow.MlflowClient(fresh.uri, fresh.uri).get_experiment("0").name == "Default"


def test_a_back_up_needs_no_password_on_a_command_line(fresh):
    (fresh.folder / "artifacts").mkdir(exist_ok=True)
    run_block(fresh, "pg_dump")
    for name in ("mlflow.dump", "mlflow_users.dump"):
        listed = [str(programs() / "pg_restore"), "--list", str(fresh.folder / name)]
        tables = subprocess.run(listed, capture_output=True, text=True, check=True).stdout
        assert ("TABLE DATA public experiments" if name == "mlflow.dump" else "TABLE DATA public users") in tables


def test_the_query_finds_experiments_elsewhere(fresh):
    with psycopg.connect(fresh.database) as connection:
        assert connection.execute(block("sql")).fetchall() == []
        connection.execute("update experiments set artifact_location = 'file:///tmp/elsewhere' where experiment_id = 0")
        assert connection.execute(block("sql")).fetchall() == [(0, "Default", "file:///tmp/elsewhere")]
        connection.rollback()
