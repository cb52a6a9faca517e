"""A protocol of saliency in `evaluate.also`: files of a comparison, and models that a method cannot explain."""

import json

import numpy as np
import pandas as pd
import pytest
import yaml

from advalign.analysis.comparison import compare
from advalign.cli.evaluate import evaluate as evaluate_command
from advalign.data.results import Paths, write_table
from advalign.data.sets.stimuli import COLUMNS, load_stimuli
from advalign.errors import CheckFailed
from advalign.evaluation.campaign import Campaign, TrainedModel
from advalign.evaluation.engines.local import local
from advalign.evaluation.runner import Evaluator
from advalign.files import sha256
from advalign.settings import load_settings
from pipelines import evaluate as pipeline
from tests.registered import evaluate, make_project, save_version

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("saliency_beside")]

SEEN, ROLLOUT = "saliency-clickme", "rollout-clickme"
GIVEN = {  # AA, saliency rho: two models exchange their ranks; the last one is not explained
    "one.baseline": (0.1, 0.05), "one.harmonized": (0.2, 0.1), "two.baseline": (0.3, 0.4), "two.harmonized": (0.4, 0.3),
    "three.baseline": (0.5, 0.5), "three.harmonized": (0.6, None),
}  # fmt: skip
WHY = "Grad-CAM needs a convolutional feature map: use rollout"


@pytest.fixture(scope="module")
def project(sample_root, tmp_path_factory):
    """Six models with given rows under fmn-fast and, but for one, under a protocol of saliency."""
    project = make_project(sample_root, tmp_path_factory.mktemp("saliency_beside") / "project")
    params = yaml.safe_load((project.root / "params.yaml").read_text())
    declared = {"probe": "saliency", "image_set": "stimuli"}
    params["evaluate"] |= {
        "also": [SEEN], "gallery": 0,
        "protocols": {SEEN: declared, ROLLOUT: {**declared, "settings": {"method": "rollout"}}},
    }  # fmt: skip
    params["compare"]["bootstrap"] = 500
    (project.root / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    for seed, (name, (aa, rho)) in enumerate(GIVEN.items()):
        save_version(project, name, seed)
        evaluate(project, name, pt=0.5 + aa, aa=aa, accuracy=0.8)
        if rho is not None:
            give_saliency(project, name, rho)
        else:
            Evaluator(project, load_settings(project.root), SEEN).record_failure(name, WHY)
    return project


def give_saliency(project, name, rho):
    """Rows with this mean rank correlation, 0.01 with other images' maps and 0.6 of the centred disc."""
    evaluator = Evaluator(project, load_settings(project.root), SEEN)
    subject = evaluator.subject(project.checkpoints / name)
    own = rho + np.linspace(-0.2, 0.2, evaluator.count)
    rows = evaluator.image_set.listing()[COLUMNS].assign(
        model=name, protocol=SEEN, target=0, rho=own, rho_shuffled=0.01, rho_centre=0.6, rho_ceiling=0.9,
        rho_minus_shuffled=own - 0.01, rho_minus_centre=own - 0.6,
    )  # fmt: skip
    write_table(evaluator.paths(name).rows, rows, subject.identities[SEEN], probe="saliency")
    evaluator.summarise(subject)


def settings_of(project, **changes):
    settings = load_settings(project.root)
    return settings.model_copy(update={"evaluate": settings.evaluate.model_copy(update=changes)})


def compared(project, **changes):
    _, statistics = compare(project, settings_of(project, **changes))
    digests = {path.relative_to(project.comparison): sha256(path) for path in project.comparison.rglob("*.*")}
    return pd.read_csv(project.comparison / "zoo.csv").set_index("model"), statistics, digests


@pytest.fixture(scope="module")
def beside(project):
    """Table, statistics, digests of the files, and report of the comparison with saliency."""
    return *compared(project), (project.comparison / "report.html").read_text()


def test_saliency_stands_beside_and_the_ranks_are_compared(beside):
    zoo, statistics, *_ = beside
    for name, (aa, rho) in list(GIVEN.items())[:-1]:
        assert zoo.loc[name, ["aa_raw", "saliency_rho"]].tolist() == pytest.approx([0.8 * aa, rho], abs=1e-5)
        assert zoo.loc[name, "rho_vs_shuffled"] == pytest.approx(rho - 0.01, abs=1e-5)
        assert zoo.loc[name, "rho_vs_centre"] == pytest.approx(rho - 0.6, abs=1e-5)
        assert zoo.loc[name, "saliency_rho_ci_low"] < rho < zoo.loc[name, "saliency_rho_ci_high"]
    assert np.isnan(zoo.loc["three.harmonized", "saliency_rho"])
    raw, controlled = statistics["saliency"]
    assert (raw["second"], raw["n"], raw["rho"]) == (SEEN, 5, pytest.approx(0.9))  # one exchange of neighbours
    assert raw["verdict"].startswith("Whether the rankings agree is open (rho 0.90 over 5 models, 95 % interval")
    assert controlled["what"] == "aligned − shuffled and saliency rho − shuffled"
    # saliency is no tolerance
    assert [one["protocol"] for one in statistics["protocols"]["trade_off"]] == ["fmn-fast"]
    assert statistics["protocols"]["agreement"] == []


def test_report_and_figures_have_it(beside):
    _, statistics, files, report = beside
    assert statistics["saliency"][0]["verdict"] in report
    assert '["saliency_rho", "saliency rho"]' in report
    assert 'id="plot-saliency_alignment"' in report
    figures = {path.name for path in files}
    assert {"saliency_alignment.png", "saliency_alignment.svg"} <= figures


def test_a_model_that_is_not_explained_is_said_in_one_line(beside):
    _, statistics, *_ = beside
    assert statistics["left_out"] == [{"protocol": SEEN, "model": "three.harmonized", "why": WHY}]
    assert f"Left out: three.harmonized under {SEEN}, {WHY}." in statistics["notes"]


def test_without_also_no_file_knows_of_it(project, beside):
    """What other protocols left on disk changes nothing."""
    zoo, statistics, files = compared(project, also=())
    assert beside[2] != files
    for path in project.comparison.glob("figures/saliency*"):  # of the comparison before
        path.unlink()
    assert not {"saliency_rho", "rho_vs_shuffled"} & {*zoo}
    assert not {"saliency"} & {*statistics}
    assert statistics["left_out"] == []
    assert "saliency" not in (project.comparison / "report.html").read_text().partition("<script>")[0]
    shown = json.loads((project.comparison / "statistics.json").read_text())["files"]
    assert not [name for name in shown if "saliency" in name]

    held = {path: path.read_bytes() for path in project.evaluations.rglob("*") if path.is_file() and SEEN in str(path)}
    for path in held:
        path.unlink()
    again = compared(project, also=())[2]
    assert again == {path: digest for path, digest in files.items() if "saliency" not in path.name}
    for path, content in held.items():
        path.write_bytes(content)


def test_a_method_that_cannot_explain_a_model_leaves_it_out(project, monkeypatch, capsys):
    settings = settings_of(project, protocol=ROLLOUT, also=(), companions=())
    one, two = (TrainedModel(project.checkpoints / name) for name in list(GIVEN)[:2])
    evaluator = Evaluator(project, settings, limit=4)
    stale = Paths(evaluator.folder, one.name)
    stale.folder.mkdir(parents=True)
    stale.rows.write_bytes(b"of other settings")
    outcomes = Campaign(evaluator, [one, two], local(1)).run()
    why = "rollout needs a vision transformer of timm, got ResNet: use grad-cam"
    assert [(outcome.state, outcome.error) for outcome in outcomes] == [("left out", why)] * 2
    assert json.loads(stale.failure.read_text()) == {"model": one.name, "error": why}
    assert not stale.rows.exists()
    assert not outcomes[0].measured

    few = settings.model_copy(update={"trainings": {one.name: settings.trainings["test_resnet.baseline"]}})
    monkeypatch.setattr(pipeline, "create_engine", lambda *_: local(1))
    pipeline.stage(project, few)  # which a failure of a training of the pipeline would end
    assert f"{ROLLOUT} {one.name}: left out {why}" in capsys.readouterr().out

    seen = Evaluator(project, settings_of(project, companions=()), SEEN, limit=4)
    (explained,) = Campaign(seen, [one], local(1)).run()
    assert explained.state == "evaluated", explained


def test_the_command_fails_where_nothing_is_measured(project, monkeypatch):
    monkeypatch.chdir(project.root)
    with pytest.raises(CheckFailed, match=r"nothing is measured; one[.]baseline: rollout needs") as error:
        evaluate_command(["one.baseline"], None, ROLLOUT, 4, "local", "cpu", 1, False, False, False, True)
    assert "\n" not in str(error.value)
    assert len(load_stimuli(project)) > 4
