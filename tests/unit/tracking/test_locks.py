"""Locks: where they lie, and who excludes whom."""

import os
import signal
from pathlib import Path

import pytest

from advalign.errors import CheckFailed
from advalign.files import Project
from advalign.tracking import locks
from advalign.tracking.locks import exclusive, lock_file
from advalign.tracking.store import StoreDown, open_store
from tests.team.processes import Process

SERVER = "https://ada:secret@tracking.example.org/"


def test_the_locks_of_a_file_lie_beside_it_and_those_of_a_server_in_the_users_state(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    (tmp_path / "project").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "project")
    beside = tmp_path / "project" / ".mlflow.db.publish.lock"
    for folder in ("project", "link"):
        assert lock_file(f"sqlite:///{tmp_path / folder / 'mlflow.db'}", "publish") == beside
    with exclusive(SERVER, "promote"):
        (held,) = (tmp_path / "state" / "advalign").iterdir()
    spelled = [
        lock_file(uri, "promote")
        for uri in (SERVER, "https://tracking.example.org", "https://bob@tracking.example.org")
    ]
    assert set(spelled) == {held}
    assert lock_file("http://localhost:5000", "publish") == lock_file("http://127.0.0.1:5000/", "publish")
    assert lock_file("http://localhost:5000", "publish") != lock_file("http://localhost:5001", "publish")


def test_whoever_may_write_the_database_may_take_its_lock(tmp_path):
    database = tmp_path / "mlflow.db"
    database.touch()
    database.chmod(0o660)
    with exclusive(f"sqlite:///{database}", "publish"):
        assert lock_file(f"sqlite:///{database}", "publish").stat().st_mode & 0o777 == 0o660


def test_a_lock_that_cannot_be_written_is_said_in_one_line_and_is_an_outage(tmp_path, monkeypatch):
    (tmp_path / "state").write_text("a file")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    with pytest.raises(StoreDown, match="set XDG_STATE_HOME") as caught, exclusive(SERVER, "publish"):
        pass
    assert "\n" not in str(caught.value)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'state' / 'mlflow.db'}")
    with pytest.raises(StoreDown, match="make the folder writable"):
        open_store(Project(tmp_path))


def hold(uri: str, held: str) -> None:
    """Take the lock, say so, and keep it until killed."""
    with exclusive(uri, "promote"):
        Path(held).touch()
        signal.pause()


@pytest.mark.slow
def test_users_whose_temporary_folders_differ_exclude_each_other_until_one_is_killed(tmp_path, monkeypatch):
    uri, held = f"sqlite:///{tmp_path / 'mlflow.db'}", tmp_path / "held"
    (tmp_path / "theirs").mkdir()
    theirs = Process(tmp_path, {"TMPDIR": str(tmp_path / "theirs")}, hold, uri, str(held))
    while not held.exists():
        assert theirs.process.is_alive(), theirs.errors()
    monkeypatch.setattr(locks, "WAIT", 0.1)
    with (
        pytest.raises(CheckFailed, match="another process on this machine holds the lock to promote"),
        exclusive(uri, "promote"),
    ):
        pass
    os.kill(theirs.process.pid, signal.SIGKILL)
    theirs.wait()
    with exclusive(uri, "promote"):
        pass
