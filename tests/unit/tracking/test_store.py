"""Opening a store."""

import os
import re
import socket
import subprocess
import sys

import pytest

from advalign import progress
from advalign.errors import InputError
from advalign.files import Project
from advalign.tracking.database import database_file, database_uri, own_database
from advalign.tracking.store import StoreDown, open_store


def test_each_project_has_its_own_store(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.delenv("MLFLOW_REGISTRY_URI", raising=False)
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        assert open_store(Project(tmp_path / name)).uri == f"sqlite:///{tmp_path / name / 'mlflow.db'}"
        assert not {"MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI"} & set(os.environ)
    given = f"sqlite:///{tmp_path / 'given.db'}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", given)
    assert open_store(Project(tmp_path / "first")).uri == given


ODD = "a b%20c?ü#'é+&=;@100%"


def test_any_character_may_stand_in_the_path_of_a_project(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (tmp_path / ODD).mkdir()
    project = Project(tmp_path / ODD)
    store = open_store(project)
    run_id = store.create_run("train", "a run", {})
    store.client.log_text(run_id, "text", "file.txt")
    assert (tmp_path / ODD / "mlflow.db").stat().st_size > 0
    assert next((tmp_path / ODD / "mlartifacts").rglob("file.txt")).read_text() == "text"
    assert store.client.list_artifacts(run_id)[0].path == "file.txt"
    assert [path.name for path in tmp_path.iterdir()] == [ODD]
    assert database_file(store.uri) == own_database(project)

    (tmp_path / ODD).rename(tmp_path / f"{ODD} moved")  # its addresses follow
    moved = open_store(Project(tmp_path / f"{ODD} moved"))
    assert moved.client.list_artifacts(run_id)[0].path == "file.txt"
    assert [path.name for path in tmp_path.iterdir()] == [f"{ODD} moved"]


def test_the_file_of_a_database_is_what_its_library_opens(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for uri, name in {
        "sqlite:///plain.db": "plain.db",
        "sqlite:///file:own%20form.db?uri=true&mode=rwc": "own form.db",
        database_uri(tmp_path / "100%25?.db"): "100%25?.db",
    }.items():
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        open_store(Project(tmp_path))
        assert database_file(uri) == tmp_path / name
        assert (tmp_path / name).is_file(), uri
    assert database_file("sqlite://") is database_file("sqlite:///:memory:") is None


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("sqlite:///garbage.db", "file is not a database: move the file away"),
        ("sqlite:///folder.db", "unable to open database file: make room or give permission there"),
        ("postgresql://127.0.0.1:1/mlflow", "Connection refused"),
        ("mysql://127.0.0.1/mlflow", "No module named 'MySQLdb': install the driver"),
        ("sqlite://", "a database in memory, which ends with the command: name a file"),
        ("sqlite:///who?.db", "in a path it is written %3F"),
    ],
)
def test_a_database_that_cannot_be_opened_is_said_at_once(tmp_path, monkeypatch, uri, said):
    (tmp_path / "garbage.db").write_bytes(b"garbage" * 1000)
    (tmp_path / "folder.db").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.setattr("time.sleep", pytest.fail)  # nothing is tried again
    with pytest.raises(StoreDown, match=re.escape(said)) as raised:
        open_store(Project(tmp_path))
    assert "\n" not in str(raised.value)


@pytest.fixture
def silent():
    """Port on which connections are accepted, and nothing is ever said."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


@pytest.mark.parametrize("address", ["postgresql://ada:secret@127.0.0.1:{}/mlflow", "http://ada:secret@127.0.0.1:{}"])
def test_a_silent_store_is_said_soon_and_waited_for_as_long_as_is_set(tmp_path, monkeypatch, capfd, silent, address):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address.format(silent))
    monkeypatch.setenv("ADVALIGN_STORE_SECONDS", "0.5")
    monkeypatch.setattr(progress, "SILENT_SECONDS", 0.05)
    with pytest.raises(
        StoreDown, match=r"does not answer in 0\.5 seconds: start it, set ADVALIGN_STORE_SECONDS"
    ) as raised:
        open_store(Project(tmp_path))
    said = capfd.readouterr().err
    assert said.count("\n") == 1
    assert "has not answered yet; 0.5 seconds are the limit" in said
    assert "secret" not in said + str(raised.value)


@pytest.mark.parametrize("given", ["soon", "0", "-3", "nan", "inf"])
def test_the_limit_is_a_number_of_seconds(tmp_path, monkeypatch, given):
    monkeypatch.setenv("ADVALIGN_STORE_SECONDS", given)
    with pytest.raises(
        InputError, match=f"ADVALIGN_STORE_SECONDS: expected a number of seconds such as 10, got '{given}'"
    ):
        open_store(Project(tmp_path))


@pytest.mark.slow
@pytest.mark.parametrize("module", ["advalign.tracking.store", "advalign.tracking.registry.promotion"])
def test_neither_a_store_nor_a_promotion_loads_a_plotting_library(module):
    code = f"import sys, {module}; print(sorted({{'matplotlib', 'plotly'}} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize("name", ["mlflow.db", "elsewhere.db"])
def test_a_database_whose_making_fails_leaves_nothing_that_the_next_command_stumbles_over(tmp_path, monkeypatch, name):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / name}")
    with monkeypatch.context() as patch:
        patch.setattr("mlflow.store.db.utils._upgrade_db", _full)  # the first tables are made by then
        with pytest.raises((StoreDown, OSError)):
            open_store(Project(tmp_path))
    assert not [path for path in tmp_path.iterdir() if path.suffix != ".lock"]
    assert open_store(Project(tmp_path)).all_runs("train") == []


def _full(_):
    raise OSError(28, "No space left on device")
