"""Cards and gates of versions evaluated under protocols that params.yaml declares, for every probe of RobustSight."""

import json
import shutil
from pathlib import Path

import pytest
import yaml

from advalign.data.results import Paths, read_summary
from advalign.data.sample.cifar_world import WorldSettings, generate_world
from advalign.errors import InputError
from advalign.evaluation.campaign import Campaign, TrainedModel
from advalign.evaluation.engines.local import local
from advalign.evaluation.runner import Evaluator
from advalign.files import Project, sha256
from advalign.inputs import folder_md5
from advalign.models.checkpoints import HISTORY
from advalign.models.zoo import create_classifier
from advalign.provenance import data_md5
from advalign.settings import load_settings
from advalign.tracking.registry.model_card import complete, evaluations
from advalign.tracking.registry.policies import read_policy
from advalign.tracking.registry.promotion import promote
from advalign.tracking.store import open_store
from advalign.workflows.publish import publish_all
from tests.conftest import REPOSITORY, edit_card, save_untrained
from tests.tiny_responses import answer_cifar

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("every_probe_on_cards")]
BASELINE, TWIN = "test_resnet.baseline", "test_resnet.aligned"
PROTOCOLS = {
    "accuracy": {"probe": "predictions", "image_set": "cifar"},
    "votes": {"probe": "smoothing", "image_set": "cifar",
              "settings": {"n0": 4, "n": 40, "radii": [0.1, 0.25], "sequential": True}},
    "common": {"probe": "corruptions", "image_set": "cifar-corrupted"},
    "maps": {"probe": "saliency", "image_set": "cifar"},
    "cue": {"probe": "shortcut"},
    "manifolds": {"probe": "geometry", "image_set": "cifar", "settings": {"draws": 20, "points": 10}},
    "fit": {"probe": "neural-fit", "image_set": "cifar", "settings": {"responses": "brain", "rois": ["V4"]}},
    "pgd-cifar": {"attack": "pgd", "image_set": "cifar", "settings": {"norm": "linf", "eps": "8/255", "steps": 2}},
}  # fmt: skip
OPEN = {"minimum_norm": False, "pareto_front": False}


def save_model(project, name, seed, **said):
    """A checkpoint that publishing takes, with the weights of a seed."""
    save_untrained(project, name, create_classifier("test_resnet", 10, 32, arguments={"output_stride": 8}, seed=seed))
    folder = project.checkpoints / name
    (folder / HISTORY).write_text("epoch,step,loss,val_accuracy\n1,10,0.5,0.9\n")
    said |= {"history_sha256": sha256(folder / HISTORY), "data_md5": data_md5(project.root), "seed": seed}
    edit_card(folder, arguments={"output_stride": 8}, inputs_sha256=f"{name} {seed}", **said)


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """The drawn 32x32 world at its smallest, and two untrained models, evaluated under every protocol."""
    project = Project(tmp_path_factory.mktemp("cards") / "project")
    generate_world(project.data, WorldSettings(scale=0.01))
    answer_cifar(project, "brain")
    (project.root / "registry").mkdir()
    shutil.copy(REPOSITORY / "registry" / "zoo.yaml", project.root / "registry")
    params = yaml.safe_load((REPOSITORY / "experiments" / "robustsight" / "params.yaml").read_text())
    params["evaluate"] |= {"protocol": "accuracy", "also": [], "companions": [], "protocols": PROTOCOLS, "gallery": 0}
    params["compare"] = {"bootstrap": 100}
    (project.root / "params.yaml").write_text(yaml.safe_dump(params))
    tracked = {"outs": [{"md5": folder_md5(project.data, None), "hash": "md5", "path": "data"}]}
    (project.root / "data.dvc").write_text(yaml.safe_dump(tracked))
    save_model(project, BASELINE, 0, group="cnn")
    save_model(project, TWIN, 1, recipe="aligned", group="aligned", baseline=BASELINE)
    for protocol in PROTOCOLS:
        evaluator = Evaluator(project, load_settings(project.root), protocol)
        models = [TrainedModel(project.checkpoints / name) for name in (BASELINE, TWIN)]
        outcomes = Campaign(evaluator, models, local(1)).run()
        assert {outcome.state for outcome in outcomes} == {"evaluated"}, outcomes
    return project


@pytest.fixture(scope="module")
def store(project):
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        store = open_store(project)
        assert not publish_all(project, store).left_out
        yield store


def measured(project, protocol, name=TWIN):
    return read_summary(Paths(project.evaluations / protocol, name))["metrics"]


def row_of(description, protocol):
    (row,) = [line for line in description.splitlines() if line.startswith(f"| {protocol} |")]
    return row


@pytest.mark.parametrize(
    ("protocol", "label", "metric"),
    [
        ("accuracy", "top-1", "top1_accuracy"),
        ("accuracy", "ECE", "expected_calibration_error"),
        ("accuracy", "NLL", "negative_log_likelihood"),
        ("accuracy", "Brier", "brier_score"),
        ("votes", "certified, l2 0.25", "certified_accuracy_eps0.25"),
        ("votes", "certified radius", "average_certified_radius"),
        ("common", "error, 15 corruptions", "corruption_error"),
        ("maps", "iou", "saliency_iou"),
        ("maps", "iou − shuffled", "iou_minus_shuffled"),
        ("cue", "shortcut drop", "shortcut_drop"),
        ("pgd-cifar", "robust", "robust_accuracy"),
        ("fit", "explained / ceiling, simulated.V4", "explained_over_ceiling.simulated.V4"),
    ],
)
def test_a_card_says_each_probes_headline_with_its_interval(protocol, label, metric, project, store):
    version = store.client.get_model_version(TWIN, "1")
    told = measured(project, protocol)
    ends = [told.get(f"{metric}{ending}") for ending in ("_ci_low", "_ci_high")]
    interval = "" if ends == [None, None] else f" ({ends[0]:.4g} to {ends[1]:.4g})"
    assert f" {label}: {told[metric]:.4g}{interval}" in row_of(version.description, protocol)
    assert evaluations(version.tags)[protocol][metric] == pytest.approx(told[metric])


def test_a_run_says_where_the_responses_are_from(project, store, tmp_path):
    version = store.client.get_model_version(TWIN, "1")
    tags = store.client.get_run(version.tags["fit.run_id"]).data.tags
    about = read_summary(Paths(project.evaluations / "fit", TWIN))["about"]
    assert (tags["advalign.responses"], tags["advalign.provenance"]) == ("brain", "simulated")
    assert tags["advalign.responses_sha256"] == about["responses_sha256"]
    table = store.client.download_artifacts(version.tags["fit.run_id"], "stimuli.json", str(tmp_path))
    columns = json.loads(Path(table).read_text())["columns"]
    assert "image" in columns
    assert not {"features", "responses.simulated.V4", "ceilings.simulated.V4"} & {*columns}


def test_a_card_says_that_a_certified_model_saw_no_noise(store):
    version = store.client.get_model_version(TWIN, "1")
    said = "Not trained with noise: the certificates under votes are valid, and smaller than could be."
    assert said in version.description
    assert said not in complete("", {**version.tags, "advalign.recipe": "noise"})
    without = {tag: value for tag, value in version.tags.items() if not tag.startswith("votes.")}
    assert said not in complete("", without)


def decided(project, store, policy):
    """Gate -> (what was wanted, whether it holds), of a promotion of the twin, which is taken back."""
    project.gates.write_text(yaml.safe_dump({"champion": {**OPEN, **policy}}))
    decision = promote(project, store, TWIN)
    assert decision.outcome == ("promoted" if all(gate.holds for gate in decision.gates) else "refused")
    if decision.outcome == "promoted":
        store.client.delete_registered_model_alias(TWIN, "champion")
    return {gate.gate: (gate.wanted, gate.holds) for gate in decision.gates}


def test_gates_name_a_number_of_every_probe(project, store):
    """Each is asked for twice: for a little less than what was measured, and for a little more (refused)."""
    asked = {
        "accuracy": ("ece", "expected_calibration_error", "at_most"),
        "votes": ("certified_accuracy_eps0.1", "certified_accuracy_eps0.1", "at_least"),
        "common": ("corruption_error.noise", "corruption_error.noise", "at_most"),
        "maps": ("iou_minus_shuffled", "iou_minus_shuffled", "at_least"),
        "cue": ("shortcut_drop", "shortcut_drop", "at_most"),
    }
    for slack, holds in ((-0.01, False), (0.01, True)):
        demands = {}
        for protocol, (name, metric, key) in asked.items():
            bound = measured(project, protocol)[metric] + (slack if key == "at_most" else -slack)
            demands[protocol] = {"bounds": {name: {key: bound}}}
        found = decided(project, store, {"protocol": "accuracy", **demands.pop("accuracy"), "also": demands})
        assert found.pop("expected_calibration_error")[1] is holds
        for protocol, (_, metric, _) in list(asked.items())[1:]:
            assert found[f"{metric} under {protocol}"][1] is holds, metric
            assert found[f"data under {protocol}"][1]
            assert found[f"sanity flags under {protocol}"] == ("none", True)


def test_no_corruption_category_may_be_worse_than_the_baseline_by_more(project, store):
    families = [f"corruption_error.{family}" for family in ("noise", "blur", "weather", "digital")]
    rise = {name: measured(project, "common")[name] - measured(project, "common", BASELINE)[name] for name in families}
    worst = max(rise, key=rise.get)
    assert rise[worst] > 0.01, "the twin is worse in one category, or the test shows nothing"
    for most, holds in ((rise[worst] - 0.005, False), (rise[worst] + 0.005, True)):
        against = {"baseline": {name: {"drop_at_most": most} for name in families}}
        found = decided(project, store, {"protocol": "common", "against": against})
        assert found[f"{worst} against baseline"] == (f"rises by at most {most:g}", holds)


def test_what_is_tested_image_by_image_is_compared_with_the_baseline(project, store):
    against = {
        "baseline": {"shortcut_drop": {"better_by": 0.0, "drop_at_most": 0.5}},
    }
    also = {"cue": {"against": against}, "maps": {"against": {"baseline": {"iou_minus_shuffled": {"better_by": 0.5}}}}}
    found = decided(project, store, {"protocol": "accuracy", "also": also})
    assert found["iou_minus_shuffled against baseline under maps"] == ("higher by 0.5, p < 0.001", False)


def test_a_policy_may_name_no_protocol_that_nobody_declares(project, store):
    project.gates.write_text(yaml.safe_dump({"champion": {**OPEN, "protocol": "vots"}}))
    with pytest.raises(
        InputError, match=r"gates\.yaml: unknown protocol 'vots'; did you mean 'votes'.*one that an exp"
    ):
        promote(project, store, TWIN)


def test_the_policy_of_the_page_is_the_registrys(tmp_path):
    """docs/registry.md: gates of every probe; and its protocols are those of experiments/robustsight."""
    page = (REPOSITORY / "docs" / "registry.md").read_text()
    (block,) = [text.partition("```")[0] for text in page.split("```yaml")[1:] if "iou_minus_shuffled" in text]
    (tmp_path / "gates.yaml").write_text(block)
    policy = read_policy(REPOSITORY / "registry" / "gates.yaml", "sighted")
    assert read_policy(tmp_path / "gates.yaml", "sighted") == policy
    assert set(policy.also["corruptions"].against["baseline"]) == {
        f"corruption_error.{family}" for family in ("noise", "blur", "weather", "digital")
    }
    evaluate = load_settings(REPOSITORY / "experiments" / "robustsight").evaluate
    assert {policy.protocol, *policy.also} <= {evaluate.protocol, *evaluate.also}
