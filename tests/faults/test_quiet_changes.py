"""Quiet changes that once ended in a wrong number or a wrong champion: each is found now, and said."""

import json
import os
import shutil

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from advalign import seals
from advalign.analysis.evaluated import SHARED, evaluated
from advalign.data.results import Paths, read_rows, write_table
from advalign.data.sets.stimuli import load_stimuli
from advalign.errors import CheckFailed, DataError, InputError
from advalign.evaluation.runner import Evaluator
from advalign.files import Project, sha256
from advalign.inputs import folder_md5
from advalign.models.checkpoints import CARD, WEIGHTS, read_card
from advalign.models.declared import ZooEntry
from advalign.models.fetched import FetchedModel
from advalign.names import Reference
from advalign.settings import load_settings
from advalign.tracking.registry.promotion import promote
from advalign.tracking.registry.registered import set_tags, versions_of
from advalign.tracking.results import Published
from advalign.tracking.store import open_store
from advalign.workflows.publish import publish_all, publish_checkpoint, publish_evaluation
from advalign.workflows.sources import find_sources
from advalign.workflows.verification import verify
from tests.conftest import REPOSITORY, edit_card
from tests.pipeline.conftest import typed
from tests.registered import evaluate, make_project, publish, save_version

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("quiet")]

BASE, TWIN = "net.baseline", "net.harmonized"
GOOD = {"pt": 0.55, "aa": 0.55, "accuracy": 0.8}


@pytest.fixture(scope="module")
def made(sample_root, tmp_path_factory):
    project = make_project(sample_root, tmp_path_factory.mktemp("quiet") / "project")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        store = open_store(project)
        publish(project, store, BASE, 0, pt=0.5, aa=0.3, accuracy=0.8)
        publish(project, store, TWIN, 1, **GOOD)
    return project


@pytest.fixture
def project(made, tmp_path, monkeypatch):
    """A project of its own with a baseline and a twin that pass all gates, both registered."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    project = Project(tmp_path / "project")
    shutil.copytree(made.root, project.root, ignore=shutil.ignore_patterns("mlflow.db", "mlartifacts", "decisions"))
    publish_all(project, open_store(project))
    return project


def summary_of(project, name):
    return seals.read_json(project.evaluations / "fmn-fast" / f"{name}.json", "")


def reseal(project, name, **changes):
    """Edit a summary as somebody does who knows of its seal."""
    path = project.evaluations / "fmn-fast" / f"{name}.json"
    summary = summary_of(project, name)
    summary["metrics"] |= changes
    seals.write_json(path, summary)
    return path


def failing(decision):
    return [gate.gate for gate in decision.gates if not gate.holds]


def test_nothing_is_wrong_with_the_project(project):
    assert promote(project, open_store(project), TWIN).outcome == "promoted"
    assert [one["model"] for one in evaluated(project, load_settings(project.root).evaluate, "fmn-fast").summaries] == [
        BASE,
        TWIN,
    ]


def test_an_edited_digit_in_a_summary_is_found_with_and_without_a_new_seal(project):
    path = project.evaluations / "fmn-fast" / f"{TWIN}.json"
    settings, store, stimuli = load_settings(project.root).evaluate, open_store(project), load_stimuli(project)
    value = summary_of(project, TWIN)["metrics"]["perturbation_tolerance"]
    path.write_text(path.read_text().replace(f'"perturbation_tolerance": {value}', '"perturbation_tolerance": 0.95'))
    for look in (
        lambda: evaluated(project, settings, "fmn-fast"),
        lambda: publish_evaluation(project, store, path, stimuli, Published()),
    ):
        with pytest.raises(DataError, match=rf"{TWIN}\.json is damaged, was edited"):
            look()
    evaluate(project, TWIN, **GOOD)
    reseal(project, TWIN, perturbation_tolerance=0.95)
    for look in (
        lambda: evaluated(project, settings, "fmn-fast"),
        lambda: publish_evaluation(project, store, path, stimuli, Published()),
    ):
        with pytest.raises(CheckFailed, match=r"its rows give perturbation_tolerance 0\.5\d*, its summary says 0\.95"):
            look()


def test_an_edited_summary_in_the_store_is_no_evidence_even_with_all_its_digests(project):
    store = open_store(project)
    version = versions_of(store, TWIN)[0]
    run_id = version.tags["fmn-fast.run_id"]
    path = reseal(project, TWIN, perturbation_tolerance=0.95)
    store.client.log_artifact(run_id, str(path))
    store.client.set_tag(run_id, "advalign.result_sha256", sha256(path))
    set_tags(store, version, {"fmn-fast.result_sha256": sha256(path)})
    with pytest.raises(CheckFailed, match="its rows give perturbation_tolerance"):
        promote(project, store, TWIN, force=True, reason="cannot be forced")
    found = verify(project, store, Reference(TWIN), load_settings(project.root), "fmn-fast")
    assert not found.holds


def test_edited_rows_with_a_new_seal_do_not_belong_to_the_summary(project):
    paths = Paths(project.evaluations / "fmn-fast", TWIN)
    rows = read_rows(paths.rows)
    write_table(paths.rows, rows.assign(norm_l2=rows["norm_l2"] * 2), summary_of(project, TWIN)["inputs_sha256"])
    with pytest.raises(CheckFailed, match=rf"{TWIN}\.parquet is not the one that was summarised"):
        evaluated(project, load_settings(project.root).evaluate, "fmn-fast")
    evaluator = Evaluator(project, load_settings(project.root), "fmn-fast")
    assert not evaluator.is_finished(evaluator.subject(project.checkpoints / TWIN))


def test_flipped_predictions_are_computed_again(project, capsys):
    evaluator = Evaluator(project, load_settings(project.root), "fmn-fast")
    subject = evaluator.subject(project.checkpoints / TWIN)
    assert evaluator.is_finished(subject)
    path = evaluator.paths(TWIN, "predictions").rows
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 4
    path.write_bytes(content)
    assert not evaluator.is_finished(subject)
    assert {task.protocol.name for task in evaluator.tasks(subject)} == {"predictions"}
    assert f"{path} is damaged" in capsys.readouterr().err


@pytest.mark.parametrize("changes", [{"license": "GPL-3.0"}, {"preprocessing": {"mean": (0.4, 0.4, 0.4)}}])
def test_the_same_weights_under_another_card_are_another_version(project, changes):
    store, folder = open_store(project), project.checkpoints / TWIN
    card = read_card(folder).model_dump(mode="json")
    edit_card(folder, **{key: {**card[key], **new} if isinstance(new, dict) else new for key, new in changes.items()})
    assert publish_checkpoint(project, store, folder, Published()).version == 2
    assert publish_checkpoint(project, store, folder, Published()).version == 2
    first, second = reversed(versions_of(store, TWIN))
    assert first.tags["advalign.weights_sha256"] == second.tags["advalign.weights_sha256"]
    decision = promote(project, store, TWIN)  # the candidate: nobody has evaluated it under its card
    assert (decision.outcome, failing(decision)) == ("refused", ["evaluation"])


def edit_ceiling(project):
    (project.data / "clickme" / "ceiling.yaml").write_text("human_ceiling: 0.4\n")


def edit_labels(project):
    path = project.data / "imagenet" / "multilabel.json"
    content = json.loads(path.read_text())
    content["problematic_images"] = sorted(content["initial_annots"])[:3]
    path.write_text(json.dumps(content))


@pytest.mark.parametrize(("edit", "name"), [(edit_ceiling, "ceiling.yaml"), (edit_labels, "multilabel.json")])
def test_edited_data_makes_no_champion(project, edit, name, capsys):
    """Before the evaluation and after it; data.dvc names the data as it was."""
    store = open_store(project)
    edit(project)
    decision = promote(project, store, TWIN)
    assert (decision.outcome, failing(decision)) == ("refused", ["data"])
    for model, numbers in ((BASE, {"pt": 0.5, "aa": 0.3, "accuracy": 0.8}), (TWIN, GOOD)):
        evaluate(project, model, **numbers)
    assert "is not what data.dvc says" in capsys.readouterr().err
    assert summary_of(project, TWIN)["data_md5"] is None
    publish_all(project, store)
    decision = promote(project, store, TWIN)
    assert (decision.outcome, "data" in failing(decision)) == ("refused", True)


def test_results_under_two_ceilings_are_not_in_one_table(project):
    (project.data / "clickme" / "ceiling.yaml").write_text("human_ceiling: 0.4\n")
    save_version(project, "late.baseline", 5)
    evaluate(project, "late.baseline", pt=0.5, aa=0.3, accuracy=0.8)
    found = evaluated(project, load_settings(project.root).evaluate, "fmn-fast")
    assert [one["model"] for one in found.summaries] == [BASE, TWIN]
    (left_out,) = found.left_out
    assert (left_out["protocol"], left_out["model"]) == ("fmn-fast", "late.baseline")
    assert left_out["why"].startswith("divided by another human ceiling than the other models: run `advalign evaluate")


def of_the_zoo(project, weights):
    """A model that is fetched from a file of weights."""
    card = read_card(project.checkpoints / BASE)
    place = {"input_size": 64, "mean": (0.5,) * 3, "std": (0.5,) * 3}
    entry = ZooEntry(group="cnn", architecture="test_resnet", license="MIT", preprocessing=place)
    rest = (project.root, card.classes, card.decisions, lambda uri: None, project.digests)
    return FetchedModel("net", entry, str(weights), project.fetched / "net", *rest)


def test_swapped_weights_of_the_zoo_are_fetched_again(project, capsys):
    weights = project.root / "net.safetensors"
    shutil.copy(project.checkpoints / BASE / WEIGHTS, weights)
    model = of_the_zoo(project, weights)
    first = model.fetch()
    assert model.known() == first
    stat, state = weights.stat(), load_file(weights)
    state["fc.weight"] = state["fc.weight"] + 1
    save_file(state, weights)
    os.utime(weights, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert weights.stat().st_size == stat.st_size
    assert model.known() is None
    assert f"{weights} or the classes changed since net was fetched" in capsys.readouterr().err
    assert model.fetch().weights_sha256 != first.weights_sha256


def test_damaged_weights_of_the_zoo_are_fetched_again(project, capsys):
    weights = project.root / "net.safetensors"
    shutil.copy(project.checkpoints / BASE / WEIGHTS, weights)
    model = of_the_zoo(project, weights)
    first = model.fetch()
    kept = project.fetched / "net" / WEIGHTS
    content = bytearray(kept.read_bytes())
    content[-9] ^= 1
    kept.write_bytes(content)
    assert model.fetch() == first
    assert sha256(kept) == first.weights_sha256
    assert "the weights were changed or damaged; the model is fetched again" in capsys.readouterr().err


def test_weights_that_are_not_finite_or_integers_become_no_checkpoint(project):
    weights = project.root / "net.safetensors"
    model = of_the_zoo(project, weights)
    good = load_file(project.checkpoints / BASE / WEIGHTS)
    statistic = next(name for name in good if name.endswith("running_var"))
    for name, change, says in (
        ("fc.weight", lambda value: value.index_fill(0, torch.tensor([3]), float("nan")), "not finite"),
        ("fc.bias", lambda value: value.index_fill(0, torch.tensor([3]), float("inf")), "not finite"),
        (statistic, lambda value: value.index_fill(0, torch.tensor([3]), float("inf")), "not finite"),
        ("fc.weight", lambda value: (value * 100).to(torch.int8), "holds torch.int8"),
    ):
        save_file({**good, name: change(good[name])}, weights)
        with pytest.raises(DataError, match=rf"{name} holds .*") as caught:
            model.fetch()
        assert says in str(caught.value)
        assert not (model.folder / CARD).exists()


def test_a_gate_that_is_given_twice_is_refused(project):
    text = yaml.safe_dump({"champion": {"protocol": "fmn-fast", "bounds": {"n_valid": {"at_least": 100}}}})
    project.gates.write_text(text + "  bounds:\n    n_valid: {at_least: 1}\n")
    with pytest.raises(InputError, match="'bounds' is given twice, in line 2 and again in line"):
        promote(project, open_store(project), TWIN)


def test_what_was_trained_by_hand_replaces_the_pipelines_result_only_on_request_and_marked(project):
    by_hand = project.runs / TWIN
    shutil.copytree(project.checkpoints / TWIN, by_hand)
    state = load_file(by_hand / WEIGHTS)
    save_file({name: value * 2 for name, value in state.items()}, by_hand / WEIGHTS)
    edit_card(by_hand, weights_sha256=sha256(by_hand / WEIGHTS))
    classes = Evaluator(project, load_settings(project.root), "fmn-fast").classes
    for names in ([], [TWIN]):
        folders = [source.folder for source in find_sources(project, classes, names)]
        assert project.checkpoints / TWIN in folders
        assert by_hand not in folders
    (asked,) = find_sources(project, classes, [str(by_hand)])
    assert asked.folder == by_hand
    assert not summary_of(project, TWIN)["by_hand"]


def test_a_model_of_the_registry_or_of_python_that_replaces_the_pipelines_is_marked(project):
    """Under the pipeline's name, with weights of its own, from wherever it comes."""
    evaluator = Evaluator(project, load_settings(project.root), "fmn-fast")
    elsewhere = project.root / "outputs" / ".registered.0" / TWIN
    shutil.copytree(project.checkpoints / TWIN, elsewhere)
    assert not evaluator._is_by_hand(evaluator.subject(elsewhere))
    edit_card(elsewhere, license="GPL-3.0")
    assert evaluator._is_by_hand(evaluator.subject(elsewhere))


def test_a_summary_of_another_protocol_is_not_taken_for_this_ones(project):
    folder = project.evaluations / "fmn-fast-thorough"
    shutil.copytree(project.evaluations / "fmn-fast", folder)
    for name in (BASE, TWIN):
        seals.write_json(folder / f"{name}.json", summary_of(project, name) | {"protocol": "fmn-fast-thorough"})
    shutil.copy(folder / f"{TWIN}.json", project.evaluations / "fmn-fast")
    with pytest.raises(DataError, match=rf"{TWIN}\.json is of {TWIN} under fmn-fast-thorough: run `advalign evaluate"):
        evaluated(project, load_settings(project.root).evaluate, "fmn-fast")


def test_results_of_two_protocols_under_two_ceilings_are_not_set_side_by_side(project):
    settings = load_settings(project.root).evaluate
    setting = {key: summary_of(project, TWIN)[key] for key in SHARED}
    assert len(evaluated(project, settings, "fmn-fast", setting).summaries) == 2
    found = evaluated(project, settings, "fmn-fast", {**setting, "human_ceiling": 0.4})
    assert found.summaries == []
    assert [one["why"].partition(":")[0] for one in found.left_out] == [
        "divided by another human ceiling than the other models"
    ] * 2


def test_a_trial_is_mended_as_a_trial():
    mend = Paths(Project(REPOSITORY).evaluations / "pgd-20-l20.5.first6", "net").mend
    assert mend == "run `advalign evaluate net --protocol pgd-20-l20.5 --limit 6` again, or remove it"


def test_one_damaged_result_does_not_keep_the_others_and_the_decisions_from_being_published(project):
    promote(project, open_store(project), TWIN)
    lost = shutil.copytree(
        project.root, project.root.with_name("lost"), ignore=shutil.ignore_patterns("ml*", ".mlflow*")
    )
    project = Project(lost)
    damaged = project.evaluations / "fmn-fast" / f"{BASE}.json"
    damaged.write_text("{}")
    published = typed(project.root, "publish")
    assert published.returncode == 1
    assert f"1 things could not be published: {damaged} is damaged" in published.stderr
    listed = json.loads(typed(project.root, "registry", "list", "--json").stdout)
    assert [(row["name"], "fmn-fast.run_id" in row["tags"]) for row in listed] == [(BASE, False), (TWIN, True)]
    assert "champion" in listed[1]["aliases"]


def test_stimuli_that_were_frozen_from_other_data_are_no_evidence(project, capsys):
    """The shard is edited and added again, and nobody freezes the stimuli again."""
    (shard,) = project.data.glob("clickme/test-*.tfrecords")
    shard.write_bytes(shard.read_bytes() + b"\0")
    (project.root / "data.dvc").write_text(
        yaml.safe_dump({"outs": [{"md5": folder_md5(project.data, None), "hash": "md5", "path": "data"}]})
    )
    evaluator = Evaluator(project, load_settings(project.root), "fmn-fast")
    assert evaluator.data.version.used is None
    assert "outputs/stimuli were frozen from other data than data/ holds" in capsys.readouterr().err
    decision = promote(project, open_store(project), TWIN)
    assert (decision.outcome, "data" in failing(decision)) == ("refused", True)


def test_what_changes_during_an_evaluation_is_noticed_at_its_end(project):
    evaluator = Evaluator(project, load_settings(project.root), "fmn-fast")
    subject = evaluator.subject(project.checkpoints / TWIN)
    edit_card(project.checkpoints / TWIN, license="GPL-3.0")
    with pytest.raises(DataError, match="was changed during the evaluation: evaluate the model again"):
        evaluator.summarise(subject)
    edit_ceiling(project)
    with pytest.raises(DataError, match="data was changed during the evaluation: evaluate again"):
        evaluator.summarise(evaluator.subject(project.checkpoints / TWIN))
