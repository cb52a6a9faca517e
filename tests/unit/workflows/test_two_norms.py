"""Two norms side by side: comparison, report, MLflow and gates by given numbers; and one real search in linf."""

import numpy as np
import pandas as pd
import pytest
import yaml

from advalign.analysis.comparison import compare
from advalign.data.expectations import validate
from advalign.data.results import read_rows, read_summary
from advalign.data.sets.stimuli import load_stimuli
from advalign.evaluation.campaign import Campaign, TrainedModel
from advalign.evaluation.engines.local import local
from advalign.evaluation.runner import Evaluator
from advalign.settings import load_settings
from advalign.tracking.registry.promotion import promote
from advalign.tracking.results import Published
from advalign.tracking.store import open_store
from advalign.workflows.publish import publish_evaluation
from tests.registered import POLICY, evaluate, make_project, publish

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("two_norms")]

TOLERANCES = {  # mean norm in l2, in linf (1/255): two models exchange their ranks
    "one.baseline": (0.5, 1.0), "one.harmonized": (0.7, 2.0), "two.baseline": (0.9, 4.0), "two.harmonized": (1.1, 3.0),
    "three.baseline": (1.3, 5.0), "three.harmonized": (1.5, 6.0),
}  # fmt: skip


@pytest.fixture(scope="module")
def project(sample_root, tmp_path_factory):
    project = make_project(sample_root, tmp_path_factory.mktemp("two_norms") / "project")
    params = yaml.safe_load((project.root / "params.yaml").read_text())
    params["evaluate"] |= {"also": ["linf-curve"], "gallery": 0}
    (project.root / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    return project


@pytest.fixture(scope="module")
def store(project):
    """Six registered models, evaluated under fmn-fast and under linf-curve."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        store = open_store(project)
        for seed, (name, (l2, linf)) in enumerate(TOLERANCES.items()):
            aa = 0.4 if name.endswith("baseline") else 0.6
            publish(project, store, name, seed, pt=l2, aa=aa, accuracy=0.8)
            summary = evaluate(project, name, pt=linf, aa=aa - 0.1, accuracy=0.8, protocol="linf-curve")
            publish_evaluation(project, store, summary, load_stimuli(project), Published())
        yield store


def compared(project, protocol=None):
    _, statistics = compare(project, load_settings(project.root), protocol)
    return pd.read_csv(project.comparison / "zoo.csv").set_index("model"), statistics


def test_both_norms_stand_side_by_side(project, store):
    zoo, statistics = compared(project)
    assert set(zoo["norm"]) == {"l2"}
    for name, (l2, linf) in TOLERANCES.items():
        assert zoo.loc[name, ["pt", "pt_linf"]].tolist() == pytest.approx([l2, linf], rel=1e-4)
        assert zoo.loc[name, "aa_linf"] == pytest.approx(zoo.loc[name, "aa"] - 0.1, abs=1e-5)
    assert statistics["norm"] == "l2"
    (agreement,) = statistics["protocols"]["agreement"]
    assert (agreement["n"], agreement["rho_pt"]) == (6, pytest.approx(1 - 6 * 2 / (6 * 35)))
    assert agreement["verdict"].startswith("Whether the rankings agree is open (rho 0.94 over 6 models, 95 % interval")
    assert [one["protocol"] for one in statistics["protocols"]["trade_off"]] == ["fmn-fast", "linf-curve"]
    report = (project.comparison / "report.html").read_text()
    assert agreement["verdict"] in report
    assert "perturbation size eps (linf norm, 1/255)" in report
    assert '["pt_linf", "PT linf", "bar"]' in report


def test_linf_may_be_the_headline(project, store):
    zoo, statistics = compared(project, "linf-curve")
    assert set(zoo["norm"]) == {"linf"}
    for name, (l2, linf) in TOLERANCES.items():
        assert zoo.loc[name, ["pt", "pt_l2"]].tolist() == pytest.approx([linf, l2], rel=1e-4)
    twin = next(one for one in statistics["paired"] if (one["twin"], one["metric"]) == ("two.harmonized", "pt"))
    assert (twin["twin_mean"], twin["difference"]) == (pytest.approx(3.0), pytest.approx(-1.0))
    said = {one["model"]: one for one in statistics["models"]}["one.baseline"]
    assert said["perturbation_tolerance_linf"] == pytest.approx(1.0)
    assert "perturbation_tolerance" not in said
    report = (project.comparison / "report.html").read_text()
    assert "PT: mean size (linf norm, 1/255) of the smallest perturbation" in report


def test_mlflow_and_the_model_card_say_the_norm(project, store):
    version = store.client.get_model_version("two.baseline", "1")
    metrics = store.client.get_run(version.tags["linf-curve.run_id"]).data.metrics
    assert metrics["pt_linf"] == pytest.approx(4.0)
    # norms spread evenly from 0.7 to 1.3 of the mean
    assert (metrics["robust_accuracy_linf2"], metrics["robust_accuracy_linf8"]) == (1.0, 0.0)
    assert not {"pt", "aa", "n_valid", "robust_accuracy_eps1"} & metrics.keys()
    assert metrics["multilabel_accuracy"] == pytest.approx(0.8, abs=0.05)
    assert float(version.tags["linf-curve.perturbation_tolerance_linf"]) == pytest.approx(4.0)
    assert "| linf-curve (linf norm, 1/255) | PT linf: 4 (" in version.description
    assert "); AA linf: 0.3 (" in version.description
    assert "| fmn-fast | PT: 0.9 (" in version.description


def test_a_promotion_asks_both_norms(project, store):
    linf = {
        "bounds": {"robust_accuracy_linf2": {"at_least": 0.5}},
        "against": {"baseline": {"pt_linf": {"not_below": 0.9}}},
    }
    policy = {**POLICY["champion"], "pareto_front": False, "also": {"linf-curve": linf}}
    project.gates.write_text(yaml.safe_dump({"champion": policy}))
    found = {name: promote(project, store, name) for name in ("two.harmonized", "three.harmonized")}
    refused, passed = ({gate.gate: gate for gate in one.gates} for one in found.values())
    tolerance = "perturbation_tolerance_linf against baseline under linf-curve"
    assert refused["robust_accuracy_linf2 under linf-curve"].holds
    assert refused["perturbation_tolerance against baseline"].holds
    assert not refused[tolerance].holds  # three quarters of its baseline's, while in l2 it is more
    assert refused[tolerance].got.startswith("3.000 of 4.000: 75%")
    assert passed[tolerance].holds
    assert [one.outcome for one in found.values()] == ["refused", "promoted"]


def test_a_search_in_linf_gives_rows_that_validate_and_compare(project, store):
    settings = load_settings(project.root)
    evaluator = Evaluator(project, settings, "linf-curve-fast", limit=12)
    (outcome,) = Campaign(evaluator, [TrainedModel(project.checkpoints / "one.baseline")], local(1)).run()
    assert outcome.state == "evaluated", outcome
    paths = evaluator.paths("one.baseline")
    rows, summary = read_rows(paths.rows), read_summary(paths)
    assert "norm_l2" not in rows
    norms = rows["norm_linf"][rows["status"] == "ok"]
    assert len(norms) > 2
    assert norms.between(0, 1, inclusive="right").all()
    assert summary["metrics"]["perturbation_tolerance_linf"] == pytest.approx(255 * norms.mean())
    share = (rows["norm_linf"].fillna(0) > 1 / 255).mean()
    assert summary["metrics"]["robust_accuracy_linf1"] == pytest.approx(share)
    found = validate(project, settings, evaluations=True)
    assert [one for one in found.failures if "linf-curve-fast" in str(one)] == []  # the given rows guess anything
    assert found.checked["evaluations_linf"] > 10
    table, statistics = compare(project, settings, "linf-curve-fast.first12")
    assert (table["norm"].tolist(), statistics["protocol"]) == (["linf"], "linf-curve-fast.first12")
    assert np.isfinite(table["pt"]).all()
