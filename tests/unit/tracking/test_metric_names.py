"""Names of an evaluation's metrics in MLflow: short ones; the long ones as tags, and in stores of advalign 0.1."""

import numpy as np
import pytest

from advalign.data.sets.stimuli import load_stimuli
from advalign.settings import load_settings
from advalign.tracking.registry.evidence import read_evidence
from advalign.tracking.registry.model_card import evaluations
from advalign.tracking.registry.promotion import promote
from advalign.tracking.results import Published
from advalign.tracking.store import open_store
from advalign.workflows import publish as publishing
from advalign.workflows.publish import publish_evaluation
from tests.registered import make_project, publish, zoo_beside

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("metric_names")]

METRICS = {
    "perturbation_tolerance": 0.5, "perturbation_tolerance_sem": 0.01, "adversarial_human_alignment": 0.4,
    "adversarial_human_alignment_raw": 0.32, "adversarial_human_alignment.dog": 0.6, "aligned_minus_shuffled": 0.1,
    "alignment_shuffled": None, "multilabel_accuracy": 0.8, "robust_accuracy_eps0.25": 0.7, "n_valid": 36.0,
    "median_tolerance": 0.45,
}  # fmt: skip


@pytest.fixture(scope="module")
def project(sample_root, tmp_path_factory):
    return make_project(sample_root, tmp_path_factory.mktemp("metric_names") / "project")


@pytest.fixture(scope="module")
def store(project):
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        yield open_store(project)


def version_of(project, store, name, **numbers):
    """Publish a version; returns it and the run of its evaluation."""
    publish(project, store, name, 0, **{"pt": 0.5, "aa": 0.4, "accuracy": 0.8, **numbers})
    version = store.client.get_model_version(name, "1")
    return version, store.client.get_run(version.tags["fmn-fast.run_id"])


def logged_as_0_1(monkeypatch):
    monkeypatch.setattr(publishing, "short_name", lambda name: name)


def give_metrics(monkeypatch):
    monkeypatch.setattr(publishing, "checked_metrics", lambda *_: METRICS)


def test_metrics_are_logged_by_short_names_with_the_long_ones_beside(project, store, monkeypatch):
    give_metrics(monkeypatch)
    version, run = version_of(project, store, "short.baseline")
    assert run.data.metrics == {
        "pt": 0.5, "pt_sem": 0.01, "aa": 0.4, "aa_raw": 0.32, "within/aa/dog": 0.6, "aligned_minus_shuffled": 0.1,
        "multilabel_accuracy": 0.8, "robust_accuracy_eps0.25": 0.7, "n_valid": 36.0, "median_tolerance": 0.45,
    }  # fmt: skip
    long = {name: value for name, value in run.data.tags.items() if name.startswith("advalign.metric.")}
    assert long == {
        "advalign.metric.perturbation_tolerance": "0.5", "advalign.metric.perturbation_tolerance_sem": "0.01",
        "advalign.metric.adversarial_human_alignment": "0.4", "advalign.metric.adversarial_human_alignment_raw": "0.32",
    }  # fmt: skip
    names = ("perturbation_tolerance", "adversarial_human_alignment", "aligned_minus_shuffled")
    assert [version.tags[f"fmn-fast.{name}"] for name in names] == ["0.5", "0.4", "0.1"]


def test_a_version_of_a_store_of_0_1_says_the_same_of_itself(project, store, monkeypatch):
    give_metrics(monkeypatch)
    now, _ = version_of(project, store, "now.baseline")
    logged_as_0_1(monkeypatch)
    then, run = version_of(project, store, "then.baseline")
    assert run.data.metrics["perturbation_tolerance"] == 0.5
    assert "pt" not in run.data.metrics
    shown = ("perturbation_tolerance", "adversarial_human_alignment", "aligned_minus_shuffled", "multilabel_accuracy")
    expected = {name: METRICS[name] for name in (*shown, "n_valid")}
    assert evaluations(then.tags) == evaluations(now.tags) == {"fmn-fast": expected}
    row = "| fmn-fast | PT: 0.5; AA: 0.4; aligned − shuffled: 0.1; multi-label: 0.8; n: 36 |"
    assert row in then.description
    assert row in now.description


def test_runs_of_both_kinds_are_one_zoo_and_gates_see_the_same_evidence(project, store, monkeypatch):
    version_of(project, store, "new.baseline", pt=0.6, aa=0.3)
    logged_as_0_1(monkeypatch)
    version_of(project, store, "old.baseline", pt=0.7, aa=0.2)
    monkeypatch.undo()
    zoo = zoo_beside(project, store, "new.baseline").set_index("model")
    assert zoo.loc[["new.baseline", "old.baseline"], ["pt", "aa"]].to_numpy() == pytest.approx(
        np.array([[0.6, 0.3], [0.7, 0.2]])
    )
    for name, tolerance in (("new.baseline", 0.6), ("old.baseline", 0.7)):
        version = store.client.get_model_version(name, "1")
        found = read_evidence(store, version, "fmn-fast", load_settings(project.root).evaluate)
        assert found.metrics["perturbation_tolerance"] == pytest.approx(tolerance)


def test_publishing_again_what_0_1_has_logged_makes_no_second_run(project, store, monkeypatch):
    with monkeypatch.context() as patch:
        logged_as_0_1(patch)
        version_of(project, store, "again.baseline")
    done = Published()
    summary = project.evaluations / "fmn-fast" / "again.baseline.json"
    publish_evaluation(project, store, summary, load_stimuli(project), done)
    assert (done.created, done.present) == ([], 1)


def test_a_twin_is_promoted_over_a_baseline_whose_run_is_of_0_1(project, store, monkeypatch):
    with monkeypatch.context() as patch:
        logged_as_0_1(patch)
        version_of(project, store, "net.baseline", pt=0.5, aa=0.2, accuracy=0.8)
    version_of(project, store, "net.harmonized", pt=0.8, aa=0.6, accuracy=0.81)
    decision = promote(project, store, "net.harmonized")
    failed = [(gate.gate, gate.got) for gate in decision.gates if not gate.holds]
    assert (decision.outcome, failed) == ("promoted", [])
    assert "perturbation_tolerance against baseline" in [gate.gate for gate in decision.gates]
