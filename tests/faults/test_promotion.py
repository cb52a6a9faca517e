"""Promotion when things go wrong: cut off at any write, raced, tampered with, asked for what is not there."""

import json
import os
import shutil
import signal
from pathlib import Path

import mlflow
import pytest
import yaml
from mlflow.tracking import MlflowClient

from advalign.errors import AdvalignError, CheckFailed, InputError
from advalign.names import Reference
from advalign.tracking.registry import aliases, audit, promotion
from advalign.tracking.registry.audit import rows
from advalign.tracking.registry.promotion import promote, rollback
from advalign.tracking.registry.registered import find_model, resolve, set_tags, versions_of
from advalign.tracking.results import Published
from advalign.tracking.store import open_store
from advalign.workflows.publish import publish_all, publish_checkpoint
from tests.pipeline.conftest import STORES
from tests.registered import make_project, publish
from tests.team.processes import Process, command_line

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("promotion")]

BASE = {"pt": 0.5, "aa": 0.3, "accuracy": 0.82}
GOOD = {"pt": 0.5, "aa": 0.5, "accuracy": 0.81}
BETTER = {"pt": 0.55, "aa": 0.55, "accuracy": 0.815}
WRITES = (
    "create_run",
    "log_dict",
    "log_batch",
    "set_terminated",
    "set_registered_model_tag",
    "delete_registered_model_tag",
    "set_registered_model_alias",
    "delete_registered_model_alias",
    "set_model_version_tag",
    "update_model_version",
)


class Killed(BaseException):
    """What nothing in the package catches: as sudden as a kill, and this process goes on to look at what is left."""


@pytest.fixture(scope="module")
def project(sample_root, tmp_path_factory):
    return make_project(sample_root, tmp_path_factory.mktemp("promotion") / "project")


@pytest.fixture(scope="module")
def store(project):
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        opened = open_store(project)
        publish(project, opened, "shared.baseline", 0, **BASE)
        yield opened


def two_versions(project, store, name):
    """A twin with two versions, both good enough, and its baseline."""
    publish(project, store, f"{name}.baseline", 1, **BASE)
    for seed, numbers in ((2, GOOD), (3, BETTER)):
        publish(project, store, f"{name}.harmonized", seed, **numbers)
    return f"{name}.harmonized"


def state(store, name):
    """What a registered model is: aliases, tags, and every version with its tags and card."""
    model = find_model(store, name)
    versions = [(found.version, found.tags, found.description) for found in versions_of(store, name)]
    return model.aliases, model.tags, sorted(versions)


def holders(store, name):
    return {alias: int(version) for alias, version in find_model(store, name).aliases.items()}


def test_promote_refuse_force_and_roll_back(project, store):
    name = two_versions(project, store, "walk")
    first = promote(project, store, name, 1)
    assert (first.outcome, first.before) == ("promoted", None)
    assert holders(store, name) == {"candidate": 2, "champion": 1}
    assert promote(project, store, name).outcome == "promoted"  # the candidate
    assert holders(store, name) == {"candidate": 2, "champion": 2, "previous": 1}
    assert promote(project, store, name).outcome == "kept"
    worse = publish(project, store, name, 4, pt=0.3, aa=0.31, accuracy=0.7)
    before = state(store, name)
    refused = promote(project, store, name)
    assert refused.outcome == "refused"
    assert [gate.gate for gate in refused.gates if not gate.holds] == [
        "adversarial_human_alignment against baseline",
        "perturbation_tolerance against baseline",
        "multilabel_accuracy against baseline",
        "multilabel_accuracy against holder",
    ]
    assert state(store, name) == before
    with pytest.raises(InputError, match="--reason"):
        promote(project, store, name, force=True)
    forced = promote(project, store, name, force=True, reason="a trial for the reviewers")
    assert forced.forced
    assert holders(store, name) == {"candidate": worse, "champion": worse, "previous": 2}
    decision = json.loads(resolve(store, Reference(name, "champion")).tags["champion.decision"])
    assert (decision["forced"], decision["reason"], len(decision["gates"])) == (True, "a trial for the reviewers", 9)
    assert "forced: a trial for the reviewers" in resolve(store, Reference(name, "champion")).description
    assert rollback(project, store, name, reason="it was a trial").version == 2
    assert holders(store, name) == {"candidate": worse, "champion": 2}
    with pytest.raises(InputError, match="has no previous version"):
        rollback(project, store, name)
    table = [(row["outcome"], row["version"], row["before"], row["forced"]) for row in rows(store, name)]
    assert table == [
        ("promoted", 1, None, False),
        ("promoted", 2, 1, False),
        ("refused", worse, 2, False),
        ("promoted", worse, 2, True),
        ("rolled back", 2, worse, False),
    ]
    store.client.delete_run(rows(store, name)[3]["run_id"])
    assert [row["deleted"] for row in rows(store, name)] == [False, False, False, True, False]


def cut_off_at(patch, write):
    """Make the n-th write to the store the last thing that a process did not do any more."""
    done = iter(range(1, 1000))

    def before(original):
        def call(*arguments, **options):
            if next(done) == write:
                raise Killed
            return original(*arguments, **options)

        return call

    for method in WRITES:
        patch.setattr(MlflowClient, method, before(getattr(MlflowClient, method)))


def test_cut_off_at_every_write_the_next_command_mends_it(project, store, monkeypatch):
    """Promote version 2 over version 1, killed before its 1st, 2nd, ... write; then a rollback or a promotion comes."""
    name = two_versions(project, store, "cut")
    promote(project, store, name, 1)
    completed = undone = 0
    for write in range(1, 100):
        decisions = len(rows(store, name))
        with monkeypatch.context() as patch:
            cut_off_at(patch, write)
            try:
                promote(project, store, name, 2)
            except Killed:
                pass
            else:
                break
        again = promote(project, store, name, 2)
        assert holders(store, name) == {"candidate": 2, "champion": 2, "previous": 1}, f"cut off at write {write}"
        assert aliases.INTENT not in find_model(store, name).tags
        outcomes = [row["outcome"] for row in rows(store, name)][decisions:]
        if again.outcome == "kept":  # the alias was in place: the first decision stands
            completed += 1
            assert outcomes == ["promoted"]
        else:
            undone += 1
            assert outcomes[-1] == "promoted"
            assert set(outcomes[:-1]) <= {"cut off"}
        decision = json.loads(resolve(store, Reference(name, "champion")).tags["champion.decision"])
        assert decision["run_id"] == rows(store, name)[-1]["run_id"]
        rollback(project, store, name)
        assert holders(store, name) == {"candidate": 2, "champion": 1}
    assert write > 8
    assert completed >= 3
    assert undone >= 3


def test_a_rollback_that_was_cut_off_is_mended_too(project, store, monkeypatch):
    name = two_versions(project, store, "back")
    for write in range(1, 100):
        promote(project, store, name, 1)
        promote(project, store, name, 2)
        with monkeypatch.context() as patch:
            cut_off_at(patch, write)
            try:
                rollback(project, store, name)
            except Killed:
                pass
            else:
                break
        promote(project, store, name, 2)
        assert holders(store, name)["champion"] == 2
        assert aliases.INTENT not in find_model(store, name).tags
        assert "under way" not in {row["outcome"] for row in rows(store, name)}
    assert write > 6


def promote_and_die(name):
    """What a process runs that is killed once the alias is in place."""
    original = MlflowClient.set_registered_model_alias

    def dying(self, name, alias, version):
        original(self, name, alias, version)
        if alias == "champion":
            os.kill(os.getpid(), signal.SIGKILL)

    MlflowClient.set_registered_model_alias = dying
    command_line("registry", "promote", name, "--version", "2")


def test_a_process_killed_for_real_is_mended(project, store):
    name = two_versions(project, store, "kill")
    promote(project, store, name, 1)
    died = Process(project.root, dict.fromkeys(STORES), promote_and_die, name)
    assert died.wait() == -signal.SIGKILL, died.errors()
    assert aliases.INTENT in find_model(store, name).tags
    assert rows(store, name)[-1]["outcome"] == "under way"
    again = promote(project, store, name, 2)
    assert again.notes == ("completed what was cut off: version 2 is champion",)
    assert rows(store, name)[-1]["outcome"] == "promoted"
    assert holders(store, name) == {"candidate": 2, "champion": 2, "previous": 1}


def interfere(patch, method, after):
    """Let somebody else, through a server, do something right after our call of a method."""
    original = getattr(MlflowClient, method)
    done = []

    def call(self, *arguments, **options):
        result = original(self, *arguments, **options)
        if not done:
            done.append(True)
            after(self)
        return result

    patch.setattr(MlflowClient, method, call)


def foreign(name, **changes):
    """What somebody on another machine would have written down."""
    values = {"decision": "0", "outcome": "promoted", "alias": "champion", "target": 1, "host": "elsewhere", **changes}
    return aliases.Intent(**{"holder": None, "next_previous": None, **values}).model_dump_json()


def test_lost_races_are_found_by_reading_again(project, store, monkeypatch):
    name = two_versions(project, store, "race")

    def their_intent(client):
        client.set_registered_model_tag(name, aliases.INTENT, foreign(name))

    with monkeypatch.context() as patch:
        interfere(patch, "set_registered_model_tag", their_intent)
        with pytest.raises(CheckFailed, match="somebody else moved champion at the same time"):
            promote(project, store, name, 2)
    assert holders(store, name) == {"candidate": 2}
    assert rows(store, name)[-1]["outcome"] == "lost"
    with pytest.raises(CheckFailed, match=r"is being moved to version 1 by process \d+ on elsewhere"):
        promote(project, store, name, 2)
    store.client.set_registered_model_tag(name, aliases.INTENT, foreign(name, at=0.0))
    mended = promote(project, store, name, 2)
    assert mended.notes == ("undid what was cut off: version 1 did not become champion",)
    assert holders(store, name) == {"candidate": 2, "champion": 2}


def test_whoever_is_overtaken_says_so(project, store, monkeypatch):
    name = two_versions(project, store, "slow")
    original = MlflowClient.set_registered_model_alias

    def overtaken(self, model, alias, version):
        original(self, model, alias, version)
        if alias == "champion":
            original(self, model, alias, "2")

    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "set_registered_model_alias", overtaken)
        with pytest.raises(CheckFailed, match="somebody else moved"):
            promote(project, store, name, 1)
    assert holders(store, name)["champion"] == 2
    assert aliases.INTENT not in find_model(store, name).tags
    assert rows(store, name)[-1]["outcome"] == "lost"


def test_another_holder_than_the_one_that_was_judged_against_is_a_lost_race(project, store, monkeypatch):
    name = two_versions(project, store, "late")
    with monkeypatch.context() as patch:
        interfere(patch, "log_dict", lambda client: client.set_registered_model_alias(name, "champion", "1"))
        with pytest.raises(CheckFailed, match="somebody else moved"):
            promote(project, store, name, 2)
    assert holders(store, name) == {"candidate": 2, "champion": 1}


def artifacts_of(store, run_id, name):
    """The stored file itself."""
    return Path(store.client.get_run(run_id).info.artifact_uri.removeprefix("file://")) / name


def model_folder(store, name):
    version = resolve(store, Reference(name, "candidate"))
    return Path(mlflow.artifacts.download_artifacts(f"models:/{name}/{version.version}"))


def flip_a_bit(path):
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def tamper_weights(project, store, name):
    flip_a_bit(next(model_folder(store, name).glob("artifacts/*/model.safetensors")))


def tamper_card(project, store, name):
    path = next(model_folder(store, name).glob("artifacts/*/card.json"))
    path.write_text(path.read_text().replace("0.5", "0.4"))


def remove_weights(project, store, name):
    next(model_folder(store, name).glob("artifacts/*/model.safetensors")).unlink()


def remove_model(project, store, name):
    shutil.rmtree(model_folder(store, name))


def run_of(store, name):
    return resolve(store, Reference(name, "candidate")).tags["fmn-fast.run_id"]


def remove_rows(project, store, name):
    artifacts_of(store, run_of(store, name), f"{name}.parquet").unlink()


def tamper_rows(project, store, name):
    flip_a_bit(artifacts_of(store, run_of(store, name), f"{name}.parquet"))


def tamper_summary(project, store, name):
    path = artifacts_of(store, run_of(store, name), f"{name}.json")
    path.write_text(path.read_text().replace('"flags": []', '"flags": [ ]'))


def delete_run(project, store, name):
    store.client.delete_run(run_of(store, name))


def other_weights(project, store, name):
    other = resolve(store, Reference(name, version=1)).tags
    for tag in ("fmn-fast.run_id", "fmn-fast.result_sha256"):
        store.client.set_model_version_tag(name, "2", tag, other[tag])


FAULTS = [
    (tamper_weights, "stored model.safetensors was changed", 1),
    (tamper_card, "stored card.json was changed", 1),
    (remove_weights, "model.safetensors is missing", 2),
    (remove_model, "holds no advalign checkpoint", 2),
    (remove_rows, "parquet is missing in the artifact store", 2),
    (tamper_rows, "is not the one that was summarised", 1),
    (tamper_summary, "is not the one that was logged", 1),
    (delete_run, "the run was deleted", 2),
    (other_weights, "of other weights", 1),
]


@pytest.mark.parametrize(("fault", "message", "code"), FAULTS, ids=[fault.__name__ for fault, _, _ in FAULTS])
def test_faults_are_one_line_and_change_nothing_even_by_force(project, store, fault, message, code):
    name = two_versions(project, store, fault.__name__.replace("_", ""))
    promote(project, store, name, 1)
    fault(project, store, name)
    before, decisions = state(store, name), rows(store, name)
    for force in (False, True):
        with pytest.raises(AdvalignError, match=message) as caught:
            promote(project, store, name, 2, force=force, reason="try")
        assert caught.value.exit_code == code
        assert "\n" not in str(caught.value)
    assert state(store, name) == before
    assert rows(store, name) == decisions
    for run in store.all_runs("evaluate", f"tags.`advalign.model` = '{name}'"):
        store.client.delete_run(run.info.run_id)  # the other tests' zoo is whole again


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nobody.harmonized",), "unknown registered model 'nobody.harmonized'"),
        (("shared.baseline", 7), "has no version 7"),
        (("shared.baseline", 1, "champoin"), "did you mean 'champion'"),
        (("shared.baseline", 1, "candidate"), "unknown alias"),
        (("shared.baseline", 1, "a b"), "cannot be an alias"),
        (("../shared",), "cannot name a model"),
        (("x' or name != 'y",), "cannot name a model"),
    ],
)
def test_what_is_not_there_is_said_in_one_line(project, store, arguments, message):
    before = state(store, "shared.baseline")
    with pytest.raises(InputError, match=message):
        promote(project, store, *arguments)
    assert state(store, "shared.baseline") == before


def test_an_alias_of_another_model_is_not_taken_for_ones_own(project, store):
    name = two_versions(project, store, "alien")
    promote(project, store, name, 1)
    with pytest.raises(InputError, match=r"shared\.baseline has no previous version"):
        rollback(project, store, "shared.baseline")
    with pytest.raises(InputError, match="has no alias 'champion'"):
        resolve(store, Reference("shared.baseline", "champion"))


def test_expired_data_fails_its_gate(project, store):
    name = two_versions(project, store, "expired")
    pointer = project.root / "data.dvc"
    whole = pointer.read_text()
    pointer.write_text(yaml.safe_dump({"outs": [{"md5": "fedcba9876543210.dir", "path": "data"}]}))
    try:
        refused = promote(project, store, name, 1)
    finally:
        pointer.write_text(whole)
    assert refused.outcome == "refused"
    assert [gate.gate for gate in refused.gates if not gate.holds] == ["data"]
    assert "champion" not in holders(store, name)


def test_a_baseline_whose_evidence_is_gone_is_a_gate_that_fails_and_can_be_forced(project, store):
    name = two_versions(project, store, "gone")
    delete_run(project, store, "gone.baseline")
    refused = promote(project, store, name, 1)
    assert [gate.got for gate in refused.gates if gate.gate == "against baseline"] == [
        f"gone.baseline version 1, evaluation run {run_of(store, 'gone.baseline')}: the run was deleted: "
        "`advalign publish` logs what lies on disk again"
    ]
    assert promote(project, store, name, 1, force=True, reason="the baseline's run is lost").outcome == "promoted"


def test_decisions_whose_file_or_row_is_gone_do_not_block_the_next(project, store, monkeypatch):
    name = two_versions(project, store, "torn")
    for damage in (
        lambda run_id: artifacts_of(store, run_id, audit.FILE).unlink(),
        lambda run_id: store.client.delete_run(run_id),
    ):
        promote(project, store, name, 1)
        with monkeypatch.context() as patch:
            patch.setattr(promotion, "_record", lambda *arguments: (_ for _ in ()).throw(Killed))
            with pytest.raises(Killed):
                promote(project, store, name, 2)
        damage(rows(store, name)[-1]["run_id"])
        assert promote(project, store, name, 2).notes == ("completed what was cut off: version 2 is champion",)
        assert aliases.INTENT not in find_model(store, name).tags


def test_cards_and_reasons_stay_short_enough_for_every_database(project, store):
    name = two_versions(project, store, "long")
    with pytest.raises(InputError, match="at most 500 characters, got 501"):
        promote(project, store, name, 1, force=True, reason="x" * 501)
    assert promote(project, store, name, 1, force=True, reason="x" * 500).outcome == "promoted"
    version = resolve(store, Reference(name, version=1))
    for alias in ("a", "b", "c", "d"):
        tag = version.tags["champion.decision"].replace('"champion"', f'"{alias}"')
        set_tags(store, version, {f"{alias}.decision": tag})
    card = resolve(store, Reference(name, version=1)).description
    assert 4000 < len(card) <= 5000
    assert card.endswith("(Cut here: the rest is in the tags.)\n")


def test_what_an_earlier_advalign_registered_is_registered_again(project, store):
    """Its version has no digest of its card: it is not loaded, and must not stand in the way of a complete one."""
    name = two_versions(project, store, "early")
    store.client.delete_model_version_tag(name, "2", "advalign.card_sha256")
    with pytest.raises(InputError, match="this advalign did not register it"):
        promote(project, store, name, 2)
    version = publish_checkpoint(project, store, project.checkpoints / name, Published())
    assert (int(version.version), holders(store, name)["candidate"]) == (3, 3)
    publish_all(project, store)
    assert promote(project, store, name).outcome == "promoted"
    assert publish_all(project, store).created == []


def test_a_version_that_is_not_evaluated_is_refused(project, store):
    name = two_versions(project, store, "bare")
    store.client.delete_model_version_tag(name, "2", "fmn-fast.run_id")
    refused = promote(project, store, name, 2)
    assert [(gate.gate, gate.holds) for gate in refused.gates] == [("protocol", True), ("evaluation", False)]


def test_decisions_are_kept_as_files_with_every_gate(project, store):
    name = two_versions(project, store, "filed")
    decision = promote(project, store, name, 1)
    run_id = rows(store, name)[-1]["run_id"]
    kept = json.loads(artifacts_of(store, run_id, audit.FILE).read_text())
    assert kept["gates"] == [vars(gate) for gate in decision.gates]
