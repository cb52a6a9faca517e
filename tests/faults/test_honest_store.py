"""One honest store: a project that is copied or moved, a database that is lost, and what people do past the gates."""

import hashlib
import json
import os
import shutil
import signal
import sqlite3
import subprocess
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

import advalign
from advalign import seals
from advalign.files import Project
from advalign.names import Reference
from advalign.tracking import database
from advalign.tracking.registry.audit import rows
from advalign.tracking.registry.promotion import promote, rollback
from advalign.tracking.registry.registered import find_model, resolve
from advalign.tracking.registry.restoring import _Restoring
from advalign.tracking.results import Published
from advalign.tracking.store import open_store
from advalign.tracking.training_run import TrainingRun
from advalign.workflows.publish import publish_all, publish_checkpoint
from tests.pipeline.conftest import STORES, typed
from tests.registered import make_project, publish, save_version
from tests.team.processes import Process, command_line

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("honest")]

BASE = {"pt": 0.5, "aa": 0.3, "accuracy": 0.82}
GOOD = {"pt": 0.5, "aa": 0.5, "accuracy": 0.81}
BETTER = {"pt": 0.55, "aa": 0.55, "accuracy": 0.815}
BASELINE, NAME = "walk.baseline", "walk.harmonized"
NOWHERE = dict.fromkeys(STORES)


@pytest.fixture(scope="module")
def finished(sample_root, tmp_path_factory):
    """A project with a champion, a previous champion and a refusal; never changed after this."""
    root = tmp_path_factory.mktemp("honest") / "a project"
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        project = make_project(sample_root, root)
        store = open_store(project)
        publish(project, store, BASELINE, 1, **BASE)
        publish(project, store, NAME, 2, **GOOD)
        promote(project, store, NAME, 1)
        assert promote(project, store, BASELINE, 1).outcome == "refused"
        evaluated = typed(root, "evaluate", NAME, "--protocol", "fmn-5")
        assert evaluated.returncode == 0, evaluated.stderr
    return root


@pytest.fixture
def copy(finished, tmp_path, monkeypatch):
    """A copy of the finished project, made as people do; no command has run in it yet."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    subprocess.run(["cp", "-a", finished, tmp_path / "copy"], check=True)
    return tmp_path / "copy"


def content(root: Path) -> str:
    """Digest of all files of a folder, their names, and empty folders."""
    found = hashlib.sha256()
    for path in sorted(root.rglob("*")):
        found.update(str(path.relative_to(root)).encode() + b"\0")
        found.update(path.read_bytes() if path.is_file() else b"")
    return found.hexdigest()


def named(root: Path) -> set[str]:
    """The folders in which a database says that artifacts lie."""
    with sqlite3.connect(root / "mlflow.db") as opened:
        found = {
            address
            for table, column in (
                ("experiments", "artifact_location"),
                ("runs", "artifact_uri"),
                ("logged_models", "artifact_location"),
                ("model_versions", "storage_location"),
            )
            for (address,) in opened.execute(f"select {column} from {table} where {column} like 'file:%'")
        }
    return {address.partition("/mlartifacts")[0].removeprefix("file://") for address in found}


def holders(root: Path, name: str = NAME) -> dict[str, int]:
    return {alias: int(number) for alias, number in find_model(open_store(Project(root)), name).aliases.items()}


def audited(root: Path, *names: str) -> list[dict]:
    done = typed(root, "registry", "audit", *names, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_copy_works_on_itself_and_leaves_the_original_as_it_is(finished, copy):
    before = content(finished)
    listed = typed(copy, "registry", "list")
    assert listed.returncode == 0, listed.stderr
    (line,) = [line for line in listed.stderr.splitlines() if line.startswith("advalign:")]
    assert f"this project was copied or moved from {finished}: " in line
    assert named(copy) == {str(copy)}
    for words in (
        ("evaluate", BASELINE, "--protocol", "fmn-5"),
        ("train", "baseline", "--model", "test_resnet"),
        ("registry", "promote", NAME, "--force", "--reason", "in the copy"),
        ("registry", "promote", BASELINE, "--force", "--reason", "in the copy"),
        ("registry", "verify", NAME, "--protocol", "fmn-5"),
        ("publish",),
    ):
        done = typed(copy, *words)
        assert done.returncode == 0, (words, done.stderr)
        assert "copied or moved" not in done.stderr
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(copy)
        assert advalign.load(f"models:/{NAME}@champion").training is False
    assert holders(copy, BASELINE) == {"candidate": 1, "champion": 1}
    assert content(finished) == before
    assert named(finished) == {str(finished).replace(" ", "%20")}


def test_a_moved_project_keeps_its_versions(copy, tmp_path, monkeypatch):
    assert holders(copy) == {"candidate": 1, "champion": 1}
    moved = tmp_path / "moved to" / "elsewhere"
    moved.parent.mkdir()
    copy.rename(moved)
    verified = typed(moved, "registry", "verify", NAME, "--protocol", "fmn-5")
    assert verified.returncode == 0, verified.stderr
    assert "rows to the last bit" in verified.stdout
    assert f"copied or moved from {copy}: " in verified.stderr
    again = typed(moved, "publish")
    assert (again.returncode, again.stdout.partition(" created")[0]) == (0, "0"), again.stdout
    monkeypatch.chdir(moved)  # MLflow itself, without advalign
    client = MlflowClient("sqlite:///mlflow.db", "sqlite:///mlflow.db")
    for run in client.search_runs(["1", "2", "5"]):
        assert client.list_artifacts(run.info.run_id), run.info.run_name


def test_a_copy_inside_the_original_follows_too(copy):
    inside = copy / "back-ups" / "monday"
    shutil.copytree(copy, inside, ignore=shutil.ignore_patterns("back-ups"))
    holders(copy)
    before = named(copy)
    assert holders(inside) == {"candidate": 1, "champion": 1}
    assert (named(inside), named(copy)) == ({str(inside)}, before)


def test_an_interrupted_training_resumed_in_a_copy_goes_on_there(copy, tmp_path):
    name, identity = "test_resnet.baseline", "cut off"
    original = Project(copy)
    run = TrainingRun(open_store(original), original, name, identity, {}, {})
    run.on_epoch({"epoch": 1.0, "step": 10.0, "loss": 0.5})
    run.cut_off(KeyboardInterrupt())
    before = content(copy)
    subprocess.run(["cp", "-a", copy, tmp_path / "second"], check=True)
    second = Project(tmp_path / "second")
    resumed = TrainingRun(open_store(second), second, name, identity, {}, {})
    assert (resumed.run_id, resumed.last) == (run.run_id, 10)
    resumed.on_epoch({"epoch": 2.0, "step": 20.0, "loss": 0.4})
    resumed.finish(save_version(second, name, 5))
    assert (second.root / "mlartifacts" / run.run_id / "artifacts" / "card.json").is_file()
    assert content(copy) == before


def die_after(method):
    """What a process runs that is killed once `database.METHOD` has done its work."""
    original = getattr(database, method)

    def dying(*arguments):
        original(*arguments)
        os.kill(os.getpid(), signal.SIGKILL)

    setattr(database, method, dying)
    command_line("registry", "list")


@pytest.mark.parametrize(("method", "state"), [("_rewrite", "old"), ("say", "new")])
def test_a_rewrite_that_is_killed_leaves_the_old_or_the_new_state(finished, copy, method, state):
    old = named(copy)
    before = content(finished)
    died = Process(copy, NOWHERE, die_after, method)
    assert died.wait() == -signal.SIGKILL, died.errors()
    assert named(copy) == (old if state == "old" else {str(copy)})
    assert holders(copy) == {"candidate": 1, "champion": 1}
    assert named(copy) == {str(copy)}
    with sqlite3.connect(copy / "mlflow.db") as opened:
        assert opened.execute("pragma integrity_check").fetchone() == ("ok",)
    assert content(finished) == before


def test_two_processes_that_open_a_copy_at_once_rewrite_it_once(copy):
    both = [Process(copy, NOWHERE, command_line, "registry", "list", "--json") for _ in range(2)]
    assert [process.wait() for process in both] == [0, 0], [process.errors() for process in both]
    assert sum("copied or moved" in process.errors() for process in both) == 1
    assert both[0].printed() == both[1].printed()
    assert named(copy) == {str(copy)}


def without_store(root: Path, name: str = "lost") -> Path:
    """A copy of the project without its database: this process has the database open, and would go on with it."""
    copy = root.with_name(name)
    shutil.copytree(root, copy)
    (copy / "mlflow.db").unlink()
    return copy


@pytest.fixture
def decided(copy):
    """A copy in which version 2 has replaced version 1 as champion; its checkpoint lies on disk twice."""
    project = Project(copy)
    store = open_store(project)
    shutil.copytree(project.checkpoints / NAME, project.runs / NAME)  # version 1 stays on disk
    publish(project, store, NAME, 3, **BETTER)
    assert promote(project, store, NAME, 2, force=True, reason="it is better").outcome == "promoted"
    assert holders(copy) == {"candidate": 2, "champion": 2, "previous": 1}
    return copy


def told(found: list[dict], root: Path) -> list[tuple]:
    """What an audit says, with versions by their weights."""
    store = open_store(Project(root))

    def weights(model, number):
        return number and resolve(store, Reference(model, version=number)).tags["advalign.weights_sha256"]

    same = ("at", "who", "outcome", "model", "alias", "forced", "reason", "deleted")
    return [
        (*(row[key] for key in same), weights(row["model"], row["version"]), weights(row["model"], row["before"]))
        for row in found
    ]


def champions(root: Path) -> dict[str, str]:
    store = open_store(Project(root))
    weights = {alias: resolve(store, Reference(NAME, alias)).tags["advalign.weights_sha256"] for alias in holders(root)}
    return {alias: weights[alias] for alias in ("champion", "previous") if alias in weights}


def test_champion_previous_and_audit_survive_the_loss_of_the_store(decided):
    table, before = told(audited(decided), decided), champions(decided)
    assert [row[2] for row in table] == ["promoted", "refused", "promoted"]
    decided = without_store(decided)
    published = typed(decided, "publish", "--json")
    assert published.returncode == 0, published.stderr
    restored = [f"{NAME} version 1: promoted", f"{BASELINE} version 1: refused", f"{NAME} version 2: promoted"]
    assert json.loads(published.stdout)["restored"] == restored
    again = audited(decided)
    assert (told(again, decided), champions(decided)) == (table, before)
    assert [row["restored"] for row in again] == [True, True, True]
    assert holders(decided) == {"candidate": 2, "champion": 1, "previous": 2}  # numbered in the order of publishing
    version = resolve(open_store(Project(decided)), Reference(NAME, "champion"))
    decision = json.loads(version.tags["champion.decision"])
    assert (decision["reason"], len(decision["gates"]) > 5) == ("it is better", True)
    assert "By " in version.description
    assert "promoted (restored)" in typed(decided, "registry", "audit").stdout
    once_more = json.loads(typed(decided, "publish", "--json").stdout)
    assert (once_more["created"], once_more["restored"]) == ([], [])
    assert rollback(Project(decided), open_store(Project(decided)), NAME).version == 2
    assert [row["outcome"] for row in audited(decided, NAME)] == ["promoted", "promoted", "rolled back"]


class Killed(BaseException):
    """As sudden as a kill; this process goes on to look at what is left."""


def test_a_restoring_that_is_cut_off_anywhere_is_completed(decided, monkeypatch):
    table, before = told(audited(decided, NAME), decided), champions(decided)
    writes = ("create_run", "log_dict", "set_terminated", "set_registered_model_alias", "log_batch")
    published = without_store(decided)
    with monkeypatch.context() as patch:
        patch.setattr(_Restoring, "run", lambda self: None)
        publish_all(Project(published), open_store(Project(published)))  # all but the decisions
    for last in range(1, 100):
        project = Project(shutil.copytree(published, decided.with_name(f"cut{last}")))
        store = open_store(project)
        done = iter(range(1, 1000))

        def before_write(original, done=done, last=last):
            def call(*arguments, **options):
                if next(done) == last:
                    raise Killed
                return original(*arguments, **options)

            return call

        with monkeypatch.context() as patch:
            for method in writes:
                patch.setattr(MlflowClient, method, before_write(getattr(MlflowClient, method)))
            try:
                publish_all(project, store)
            except Killed:
                pass
            else:
                break
        publish_all(project, store)
        found = told(audited(project.root, NAME), project.root), champions(project.root)
        assert found == (table, before), f"cut off at {last}"
    assert last > 10


def test_what_was_decided_since_is_not_changed_by_restoring(decided):
    """After the loss somebody promotes before publishing: the alias stays, and the old rows come before the new one."""
    decided = without_store(decided)
    project = Project(decided)
    store = open_store(project)
    publish(project, store, NAME, 4, **GOOD)
    publish(project, store, BASELINE, 1, **BASE)
    promote(project, store, NAME, 1, force=True, reason="at once")
    publish_all(project, store)
    assert holders(decided)["champion"] == 1
    assert "previous" not in holders(decided)
    assert [(row["outcome"], row["reason"], row["restored"]) for row in audited(decided, NAME)] == [
        ("promoted", "", True),
        ("promoted", "it is better", True),
        ("promoted", "at once", False),
    ]


def test_an_alias_that_was_removed_on_purpose_does_not_come_back(decided):
    store = open_store(Project(decided))
    store.client.delete_registered_model_alias(NAME, "champion")
    assert json.loads(typed(decided, "publish", "--json").stdout)["created"] == []
    assert "champion" not in holders(decided)
    (row,) = [row for row in audited(decided) if row["outcome"] == "set by hand"]
    assert (row["model"], row["alias"], row["version"], row["before"]) == (NAME, "champion", None, 2)


def test_a_version_that_comes_back_later_gets_its_decision_and_its_alias(decided):
    """As where another experiment publishes it; meanwhile an alias that somebody removes does not come back."""
    decided = without_store(decided)
    project = Project(decided)
    away = decided / "away"
    shutil.move(project.runs / NAME, away)  # version 1, the previous champion
    first = typed(decided, "publish")
    assert "2 restored decisions are about versions that the store lacks" in first.stderr
    assert holders(decided) == {"candidate": 1, "champion": 1}
    assert [(row["version"], row["before"]) for row in audited(decided, NAME)] == [(None, None), (1, None)]
    shutil.move(away, project.runs / NAME)
    second = typed(decided, "publish")
    assert "lacks" not in second.stderr
    assert holders(decided) == {"candidate": 2, "champion": 1, "previous": 2}
    assert [(row["version"], row["before"]) for row in audited(decided, NAME)] == [(2, None), (1, 2)]
    assert "by hand" not in typed(decided, "registry", "list").stdout


def test_a_damaged_decision_is_named_and_left_out(decided):
    decided = without_store(decided)
    damaged = sorted(Project(decided).decisions.glob(f"*{NAME}*"))[0]
    damaged.write_text(damaged.read_text().replace('"who": "', '"who": "not '))
    published = typed(decided, "publish")
    assert published.returncode == 0, published.stderr
    (line,) = [line for line in published.stderr.splitlines() if "fmn-5" not in line]  # version 1's, outdated
    assert f"{damaged} is damaged" in line
    assert [row["reason"] for row in audited(decided, NAME)] == ["it is better"]


def test_the_store_of_a_team_gets_no_decision_of_another_store_and_keeps_its_holders(decided, tmp_path, monkeypatch):
    team = tmp_path / "team.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{team}")
    project = Project(decided)
    store = open_store(project)
    publish_all(project, store)
    assert "champion" not in find_model(store, NAME).aliases  # it was decided in the project's own store
    promote(project, store, NAME, 1, force=True, reason="in the team")
    own = [path for path in project.decisions.glob("*.json") if "in the team" in path.read_text()]
    assert [json.loads(path.read_text())["store"] for path in own] == [store.uri]
    for path in project.decisions.glob("*.json"):  # of another store, which is lost: a colleague promoted since
        kept = seals.read_json(path, "")
        kept |= {"store": f"sqlite:///{tmp_path / 'other.db'}", "id": kept["id"][::-1]}
        seals.write_json(path, kept)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'other.db'}")
    other = open_store(project)
    for folder in (project.checkpoints / NAME, project.runs / NAME):
        publish_checkpoint(project, other, folder, Published())
    other.client.set_registered_model_alias(NAME, "champion", "2")
    publish_all(project, other)
    assert {alias: int(number) for alias, number in find_model(other, NAME).aliases.items()}["champion"] == 2
    assert [row["restored"] for row in rows(other, NAME)] == [True, True, True]


def test_an_alias_that_somebody_set_in_mlflow_is_flagged(decided):
    assert all(row["outcome"] != "set by hand" for row in audited(decided))
    assert "by hand" not in typed(decided, "registry", "list").stdout
    store = open_store(Project(decided))
    store.client.set_registered_model_alias(NAME, "champion", "1")
    store.client.set_registered_model_alias(BASELINE, "shadow", "1")
    flagged = [row for row in audited(decided) if row["outcome"] == "set by hand"]
    assert [(row["model"], row["alias"], row["version"], row["before"]) for row in flagged] == [
        (BASELINE, "shadow", 1, None),
        (NAME, "champion", 1, 2),
    ]
    sentence = f"{NAME}: champion was set by hand: version 1 holds it, the last decision gave it to version 2"
    for words in (("registry", "audit"), ("registry", "list")):
        assert sentence in typed(decided, *words).stdout
    listed = json.loads(typed(decided, "registry", "list", "--json").stdout)
    assert {(row["name"], row["version"]): row["by_hand"] for row in listed if row["by_hand"]} == {
        (BASELINE, 1): ["shadow"],
        (NAME, 1): ["champion"],
    }
