"""Moving from the project's own mlflow.db to the team's server, with what lies on disk no longer."""

import json
import shutil

import pytest
from mlflow.entities import ViewType

from advalign.data.sets.stimuli import load_stimuli
from advalign.files import Project
from advalign.models.checkpoints import load_checkpoint, save_checkpoint
from advalign.tracking.lineage import COPIED
from advalign.tracking.registry import audit
from advalign.tracking.registry.aliases import INTENT, Intent
from advalign.tracking.registry.promotion import promote
from advalign.tracking.registry.registered import WEIGHTS_TAG, find_model, versions_of
from advalign.tracking.results import Published
from advalign.tracking.store import COPY, KINDS, open_store
from advalign.tracking.transfer import carry_over, local_store
from advalign.workflows.publish import publish_checkpoint, publish_evaluation
from tests.team.conftest import PROTOCOL, evaluation_as
from tests.team.processes import advalign

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("team")]


@pytest.fixture
def name(request):
    """A model of this test's own: the server is shared."""
    return f"test_resnet.{request.node.name}"


def make_version(project, store, name, number):
    """Version `number` of a model, whose weights are those of that number; on disk there is the last one only."""
    classifier, card = load_checkpoint(project.runs / "test_resnet.baseline")
    fields = card.model_dump(exclude={"weights_sha256", "code_sha256", "preprocessing"})
    next(iter(classifier.network.parameters())).data.view(-1)[0] = number
    folder = project.runs / name
    save_checkpoint(folder, classifier, {**fields, "name": name, "inputs_sha256": f"{number}" * 64})
    shutil.copy(project.runs / "test_resnet.baseline" / "history.csv", folder)
    return publish_checkpoint(project, store, folder, Published())


@pytest.fixture
def local(root, monkeypatch):
    """The project's mlflow.db."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return open_store(Project(root))


@pytest.fixture
def history(root, name, local):
    """The project's mlflow.db: three versions, two promotions, an evaluation. On disk there is the third only."""
    project = Project(root)
    for number in (1, 2, 3):
        version = make_version(project, local, name, number)
        if number == 2:
            summary = evaluation_as(project, name, 0.25, version)
            publish_evaluation(project, local, summary, load_stimuli(project), Published())
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
            for tag in (COPIED, COPY):
                runs[weights, kind]["tags"].pop(tag, None)
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

    both = [advalign(root, member, "publish", "--all", "--json") for _ in range(2)]  # and then two at once
    assert [process.wait() for process in both] == [0, 0], [process.errors() for process in both]
    created = [what for process in both for what in json.loads(process.printed())["created"]]
    assert created.count(f"promote run {name} version 2: promoted") == 1
    assert described(store, name) == expected
    before = counted(store)
    again = advalign(root, member, "publish", "--all", "--json")
    assert again.wait() == 0, again.errors()
    assert json.loads(again.printed())["created"] == []
    assert counted(store) == before
    runs = [run for kind in KINDS for run in store.all_runs(kind, view=ViewType.ALL)]
    sources = [run.data.tags[COPIED] for run in runs if COPIED in run.data.tags]
    assert len(sources) == len(set(sources))
    assert {len(source) for source in sources} == {32}  # all are whole

    back = advalign(root, member, "registry", "rollback", name)  # takes an alias away, which members may
    assert back.wait() == 0, back.errors()
    aliases = {alias: int(number) for alias, number in find_model(store, name).aliases.items()}
    assert aliases == {"champion": 1, "candidate": 3}


def remove_files(store, version):
    """Lose a version's files, as somebody who tidies up does."""
    model = store.client.get_logged_model(version.source.removeprefix("models:/"))
    shutil.rmtree(model.artifact_location.removeprefix("file://"))


def moved(project, source, target) -> list[str]:
    """Carry everything over in this process; what is said of it that was left out."""
    return carry_over(project, source, target, Published(), lambda *_: None)


def weights_by_number(store, name) -> dict[int, str]:
    return {int(version.version): version.tags[WEIGHTS_TAG] for version in versions_of(store, name)}


def test_a_promotion_that_was_cut_off_and_a_foreign_model_are_left_out(root, name, local, member):
    project = Project(root)
    make_version(project, local, name, 1)
    promote(project, local, name, 1, force=True, reason="as told")
    make_version(project, local, name, 2)
    fields = {"decision": "f" * 32, "outcome": "promoted", "alias": "champion", "target": 2, "holder": 1}
    intent = Intent(**fields, next_previous=1, at=0)
    local.client.set_registered_model_tag(name, INTENT, intent.model_dump_json())
    local.client.create_registered_model("somebody else's")
    failed = local.client.create_run(local.experiment_ids["validate"], run_name="data that is wrong")
    local.client.set_terminated(failed.info.run_id, "FAILED")
    store = open_store(project)

    foreign = 'registered model "somebody else\'s": advalign did not register it'
    mend = "in the source promote it or roll it back once, which completes or undoes that, and publish again"
    assert moved(project, local_store(project, store), store) == [
        foreign,
        f"aliases of {name}: moving one is under way or was cut off: {mend}",
    ]
    assert sorted(weights_by_number(store, name)) == [1, 2]
    assert find_model(store, name).aliases == {}
    (copy,) = store.find_runs("validate", {COPIED: failed.info.run_id})
    assert (copy.info.status, copy.info.run_name) == ("FAILED", "data that is wrong")

    assert promote(project, local, name, 2, force=True, reason="as I said").notes == (
        "undid what was cut off: version 2 did not become champion",
    )
    assert moved(project, local_store(project, store), store) == [foreign]
    aliases = {alias: int(number) for alias, number in find_model(store, name).aliases.items()}
    assert aliases == {"champion": 2, "previous": 1, "candidate": 2}
    rows = audit.rows(store, name)
    assert [(row["outcome"], row["version"], row["before"]) for row in rows] == [
        ("promoted", 1, None),
        ("promoted", 2, 1),
    ]


def test_the_teams_aliases_stay_and_what_is_gone_is_told(root, name, history, member):
    """The team has a champion of the same model, and the files of the first version were removed."""
    remove_files(history, versions_of(history, name)[-1])
    store = open_store(Project(root))
    version = publish_checkpoint(Project(root), store, Project(root).runs / name, Published())
    store.client.set_registered_model_alias(name, "champion", version.version)
    store.client.delete_registered_model_alias(name, "candidate")

    done = advalign(root, member, "publish", "--all", "--json")
    assert done.wait() == 1, done.errors()
    aliases = find_model(store, name).aliases
    assert int(aliases["champion"]) == int(version.version)
    assert "previous" not in aliases  # who was champion before the source's champion was not so before the team's
    assert int(aliases["candidate"]) == int(version.version)  # the newest of the source
    assert len(versions_of(store, name)) == 2
    (left_out,) = json.loads(done.printed())["left_out"]
    assert left_out.startswith(f"{name} version 1 cannot be loaded: ")
    assert "Traceback" not in done.errors()


def test_without_another_store_all_is_plain_publish(root):
    local = {"MLFLOW_TRACKING_URI": None}
    done = advalign(root, local, "publish", "--all")
    assert done.wait() == 0, done.errors()
    lines = done.printed().splitlines()
    assert lines[0] == "there is nothing to copy: mlflow.db is absent, or it is the store that is set"
    assert lines[1].startswith("0 created, ")
