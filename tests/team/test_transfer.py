"""Moving from the project's own mlflow.db to the team's server, with what lies on disk no longer."""

import json
import shutil

import pytest

from advalign.files import Project
from advalign.models.checkpoints import load_checkpoint, save_checkpoint
from advalign.tracking import audit
from advalign.tracking.promotion import promote
from advalign.tracking.publish import Published, publish_checkpoint
from advalign.tracking.registered import WEIGHTS_TAG, find_model, versions_of
from advalign.tracking.run_copies import COPIED
from advalign.tracking.store import KINDS, open_store
from tests.team.conftest import PROTOCOL
from tests.team.processes import advalign

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("team")]


@pytest.fixture
def name(request):
    """A model of this test's own: the server is shared."""
    return f"test_resnet.{request.node.name}"


@pytest.fixture
def history(root, name, monkeypatch):
    """The project's mlflow.db: three versions, two promotions, an evaluation. On disk there is the third only."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    project = Project(root)
    local = open_store(project)
    classifier, card = load_checkpoint(project.runs / "test_resnet.baseline")
    fields = card.model_dump(exclude={"weights_sha256", "preprocessing"})
    for number in (1, 2, 3):
        next(iter(classifier.network.parameters())).data.view(-1)[0] = number
        folder = project.runs / name
        save_checkpoint(folder, classifier, {**fields, "name": name, "inputs_sha256": f"{number}" * 64})
        shutil.copy(project.runs / "test_resnet.baseline" / "history.csv", folder)
        publish_checkpoint(project, local, folder, Published())
        if number == 2:
            done = advalign(root, {"MLFLOW_TRACKING_URI": None}, "evaluate", name, "--protocol", PROTOCOL)
            assert done.wait() == 0, done.errors()
            for path in project.evaluations.glob(f"*/{name}*"):
                path.unlink()
        if number < 3:
            promote(project, local, name, number, force=True, reason=f"try {number}")
    return local


def described(store, name) -> dict[str, object]:
    """What a store knows of the model, without ids and numbers that differ from store to store."""
    versions = {version.tags[WEIGHTS_TAG]: version for version in versions_of(store, name)}
    of_number = {int(version.version): weights for weights, version in versions.items()}
    runs = {}
    for weights, version in versions.items():
        evaluation = version.tags.get(f"{PROTOCOL}.run_id")
        for kind, run_id in (("train", version.run_id), ("evaluate", evaluation)):
            if run_id is None:
                continue
            run = store.client.get_run(run_id)
            curves = {key: store.client.get_metric_history(run_id, key) for key in run.data.metrics}
            runs[weights, kind] = {
                "metrics": {
                    key: [(one.step, one.value, one.timestamp) for one in curve] for key, curve in curves.items()
                },
                "params": run.data.params,
                "times": (run.info.start_time, run.info.end_time, run.info.status),
                "artifacts": sorted(one.path for one in store.client.list_artifacts(run_id)),
                "tags": {
                    key: value for key, value in run.data.tags.items() if key.startswith(("advalign", "git", "dvc"))
                },
            }
            runs[weights, kind]["tags"].pop(COPIED, None)
    kept = ("advalign.", "git.", "dvc.", "settings.", f"{PROTOCOL}.")
    return {
        "runs": runs,
        "tags": {
            weights: {key: value for key, value in version.tags.items() if key.startswith(kept) and "run_id" not in key}
            for weights, version in versions.items()
        },
        "aliases": {alias: of_number[int(number)] for alias, number in find_model(store, name).aliases.items()},
        "audit": [
            (row["at"], row["outcome"], row["reason"], of_number[row["version"]], of_number.get(row["before"]))
            for row in audit.rows(store, name)
        ],
    }


def counted(store) -> dict[str, int]:
    return {kind: len(store.all_runs(kind)) for kind in KINDS}


def test_all_is_carried_over_once(root, name, history, member):
    expected = described(history, name)
    assert len(expected["runs"]) == 4
    assert set(expected["aliases"]) == {"champion", "previous", "candidate"}
    assert len(expected["audit"]) == 2

    cut_off = advalign(root, member, "publish", "--all")  # killed somewhere in the middle
    store = open_store(Project(root))
    while cut_off.process.is_alive() and not versions_of(store, name):
        cut_off.process.join(0.05)
    cut_off.process.kill()
    cut_off.process.join()

    moved = advalign(root, member, "publish", "--all", "--json")
    assert moved.wait() == 0, moved.errors()
    assert described(store, name) == expected
    before = counted(store)
    again = advalign(root, member, "publish", "--all", "--json")
    assert again.wait() == 0, again.errors()
    assert json.loads(again.printed())["created"] == []
    assert counted(store) == before
    sources = [run.data.tags[COPIED] for kind in KINDS for run in store.all_runs(kind) if COPIED in run.data.tags]
    assert len(sources) == len(set(sources))

    back = advalign(root, member, "registry", "rollback", name)  # takes an alias away, which members may
    assert back.wait() == 0, back.errors()
    aliases = {alias: int(number) for alias, number in find_model(store, name).aliases.items()}
    assert aliases == {"champion": 1, "candidate": 3}


def test_the_teams_aliases_stay_and_what_is_gone_is_told(root, name, history, member):
    """The team has a champion of the same model, and the files of the first version were removed."""
    first = versions_of(history, name)[-1]
    model = history.client.get_logged_model(first.source.removeprefix("models:/"))
    shutil.rmtree(model.artifact_location.removeprefix("file://"))
    store = open_store(Project(root))
    version = publish_checkpoint(Project(root), store, Project(root).runs / name, Published())
    store.client.set_registered_model_alias(name, "champion", version.version)
    store.client.delete_registered_model_alias(name, "candidate")

    moved = advalign(root, member, "publish", "--all", "--json")
    assert moved.wait() == 1, moved.errors()
    aliases = find_model(store, name).aliases
    assert int(aliases["champion"]) == int(version.version)
    assert "previous" not in aliases  # who was champion before the source's champion was not so before the team's
    assert int(aliases["candidate"]) == int(version.version)  # the newest of the source
    assert len(versions_of(store, name)) == 2
    (left_out,) = json.loads(moved.printed())["left_out"]
    assert left_out.startswith(f"{name} version 1: its files cannot be fetched: ")
    assert "Traceback" not in moved.errors()


def test_without_another_store_all_is_plain_publish(root):
    local = {"MLFLOW_TRACKING_URI": None}
    done = advalign(root, local, "publish", "--all")
    assert done.wait() == 0, done.errors()
    lines = done.printed().splitlines()
    assert lines[0] == "there is no other store to carry over: mlflow.db is absent, or it is the store that is set"
    assert lines[1].startswith("0 created, ")
