"""Tables 1 to 5 of RobustSight: measured values are those of the rows, printed ones those of the paper."""

import json
import math

import pandas as pd
import pytest
import yaml

from advalign.analysis.corruptions import corrupted_models, corruption_heat_map, corruption_table
from advalign.analysis.robustsight.measured import Experiment
from advalign.analysis.robustsight.published import Publication, read_publication
from advalign.analysis.robustsight.report import write_robustsight
from advalign.analysis.robustsight.tables import CIRCULAR, DRAWN, robustsight_tables
from advalign.data.results import Paths, read_rows
from advalign.data.sample.cifar_world import WorldSettings, generate_world
from advalign.errors import InputError
from advalign.evaluation.campaign import Campaign, TrainedModel
from advalign.evaluation.engines.local import local
from advalign.evaluation.runner import Evaluator
from advalign.files import Project
from advalign.metrics.corruption_error import HEADLINE
from advalign.models.zoo import create_classifier
from advalign.settings import load_settings
from advalign.tensors.corruptions.constants import NAMES
from tests.conftest import REPOSITORY, save_untrained

PUBLISHED = REPOSITORY / "registry" / "published" / "kannappan2025.yaml"
MODEL, NAMESAKE = "test_resnet.baseline", "resnet18_cifar.baseline"  # the second has the name of a published model
ALIGNED = "test_resnet.aligned"
MODELS = (NAMESAKE, ALIGNED, MODEL)
STRIDE = {"output_stride": 8}  # leaves a last map of 4x4


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """Three untrained models, evaluated on a tiny drawn world under the experiment's protocols."""
    root = tmp_path_factory.mktemp("robustsight")
    generate_world(root / "data", WorldSettings(scale=0.08))
    params = yaml.safe_load((REPOSITORY / "experiments" / "robustsight" / "params.yaml").read_text())
    params["evaluate"]["protocols"]["pgd-cifar"]["settings"]["steps"] = 3
    params["evaluate"]["protocols"]["votes-cifar"]["settings"] |= {"n0": 4, "n": 40}
    (root / "params.yaml").write_text(yaml.safe_dump(params))
    (root / "registry" / "published").mkdir(parents=True)
    (root / "registry" / "published" / PUBLISHED.name).write_text(PUBLISHED.read_text())
    (root / "registry" / "zoo.yaml").write_text((REPOSITORY / "registry" / "zoo.yaml").read_text())
    project, settings = Project(root), load_settings(root)
    for seed, name in enumerate(MODELS):
        classifier = create_classifier("test_resnet", 10, 32, seed=seed, arguments=STRIDE)
        told = {"recipe": "aligned", "baseline": MODEL} if name == ALIGNED else {}
        save_untrained(project, name, classifier, arguments=STRIDE, **told)
    for protocol in (settings.evaluate.protocol, *settings.evaluate.also):
        sources = [TrainedModel(project.checkpoints / name) for name in MODELS]
        outcomes = Campaign(Evaluator(project, settings, protocol), sources, local(1)).run()
        assert [one.state for one in outcomes] == ["evaluated"] * len(MODELS), outcomes
    return project


@pytest.fixture(scope="module")
def experiment(project):
    return Experiment(project, load_settings(project.root))


@pytest.fixture(scope="module")
def made(experiment):
    tables, notes = robustsight_tables(experiment, read_publication(PUBLISHED))
    return {name: table.set_index("model") for name, table in tables.items()}, notes


def rows(project, protocol, name=MODEL):
    return read_rows(Paths(project.evaluations / protocol, name).rows)


def test_errors_under_corruption_are_those_of_the_rows(project):
    settings = load_settings(project.root)
    found = corrupted_models(project, settings)
    assert [(one.protocol, one.model) for one in found] == [("corruptions", name) for name in MODELS]
    table = corruption_table(found, settings, against=MODEL).set_index("model")
    told = rows(project, "corruptions", NAMESAKE)
    at_fog_3 = (told["prediction_fog_3"] != told["label"]).mean()
    assert found[0].errors.mean(0)[NAMES.index("fog"), 2] == pytest.approx(at_fog_3)
    assert found[0].numbers["corruption_error.fog_3"] == pytest.approx(at_fog_3)
    assert table.loc[NAMESAKE, "error"] == pytest.approx(found[0].errors[:, HEADLINE].mean())
    assert table.loc[NAMESAKE, "clean_error"] == pytest.approx((told["clean_prediction"] != told["label"]).mean())
    assert table.loc[NAMESAKE, "against"] == MODEL
    assert len(corruption_heat_map(found, against=MODEL).panels) == 2
    assert len(corruption_heat_map(found).panels) == 1, "the aligned model beside its baseline"


def test_printed_values_by_value(made):
    one, two = made[0]["table1"], made[0]["table2"]
    assert list(one.index) == [NAMESAKE, MODEL, "vit_small_patch2_32.baseline"]
    assert one.loc["vit_small_patch2_32.baseline", ["clean_accuracy_published", "ece_published"]].tolist() == [
        0.912,
        0.047,
    ]
    assert one.loc["resnet18_cifar.baseline", ["parameters_published", "hours_published"]].tolist() == [11.2, 2.5]
    adversarial = two.loc["resnet18_cifar_linf_eps8_255.adversarial"]
    printed = ["clean_accuracy", "fgsm_accuracy", "pgd_accuracy", "attack_success"]
    assert adversarial[[f"{name}_published" for name in printed]].tolist() == [0.869, 0.724, 0.452, 0.480]
    assert adversarial[printed].isna().all()
    assert adversarial["recipe"] == "adversarial"


def test_the_papers_attack_success_is_of_pgd():
    models = read_publication(PUBLISHED).models.items()
    for name, values in ((name, values) for name, values in models if values.pgd_accuracy is not None):
        success = (values.clean_accuracy - values.pgd_accuracy) / values.clean_accuracy
        assert values.attack_success == pytest.approx(success, abs=6e-4), name


@pytest.mark.parametrize("name", [MODEL, NAMESAKE])
def test_measured_values_are_those_of_the_rows(project, made, name):
    told = made[0]["table2"].loc[name]
    clean = rows(project, "accuracy", name)
    right = (clean["prediction"] == clean["label"]).mean()
    assert told["clean_accuracy"] == pytest.approx(right)
    assert told["swapped_accuracy"] == pytest.approx(
        (rows(project, "shortcut", name)["prediction"] == clean["label"]).mean()
    )
    held = (rows(project, "pgd-cifar", name)["status"] == "attack_failed").mean()
    assert told["fgsm_accuracy"] == pytest.approx(
        (rows(project, "fgsm-cifar", name)["status"] == "attack_failed").mean()
    )
    assert told["pgd_accuracy"] == pytest.approx(held)
    assert told["pgd_low"] <= held <= told["pgd_high"]
    assert told["attack_success"] == pytest.approx((right - held) / right)
    curve = rows(project, "curve-cifar", name)
    beyond = (curve["status"] == "attack_failed") | (255 * curve["norm_linf"] > 8)
    assert told["curve_accuracy"] == pytest.approx((beyond & (curve["status"] != "misclassified_clean")).mean())
    assert told["mean_norm"] == pytest.approx(255 * curve["norm_linf"].mean(), nan_ok=True)
    assert made[0]["table1"].loc[name, "parameters"] == pytest.approx(0.203946, abs=0.2)


def test_only_a_model_of_the_published_name_has_printed_values_beside_it(made):
    table = made[0]["table2"]
    assert table.loc[MODEL].filter(like="_published").isna().all()
    assert table.loc[NAMESAKE].notna().all()


def test_notes_say_that_the_images_are_drawn_and_where_the_values_are_from(made):
    assert DRAWN in made[1]
    assert CIRCULAR in made[1]
    assert made[1][0] == "Published: Kannappan 2025, Tables 1 to 5."


def test_saliency_errors_and_certificates_are_those_of_the_rows(project, made):
    three, five, certified = (made[0][name] for name in ("table3", "table5", "certified"))
    for name in MODELS:
        found = rows(project, "saliency", name)
        assert three.loc[name, "iou"] == pytest.approx(found["iou"].mean())
        assert three.loc[name, "iou_sd"] == pytest.approx(found["iou"].std())
        assert three.loc[name, "over_centre"] == pytest.approx((found["iou"] - found["iou_centre"]).mean())
        swapped = rows(project, "shortcut", name)
        assert three.loc[name, "shortcut_drop"] == pytest.approx(swapped["shortcut_drop"].mean())
        votes = rows(project, "votes-cifar", name)
        held = votes["correct"] & (votes["certified_radius_l2"] >= 0.25)
        assert certified.loc[name, "certified_0.25"] == pytest.approx(held.mean())
    assert three.loc["resnet18_cifar.aligned.released", ["iou_published", "iou_sd_published"]].tolist() == [
        0.423,
        0.112,
    ]
    change = five.loc[ALIGNED, "error"] - five.loc[MODEL, "error"]
    assert five.loc[ALIGNED, "change"] == pytest.approx(change)
    assert five.loc[ALIGNED, "change_low"] <= change <= five.loc[ALIGNED, "change_high"]
    assert math.isnan(five.loc[MODEL, "change"])
    adversarial = five.loc["resnet18_cifar_linf_eps8_255.adversarial"]
    assert adversarial[["mce_published", "mce_noise_published"]].tolist() == [1.37, 1.45]
    aligned = ["resnet18_cifar.aligned.released", ALIGNED, "vit_small_patch2_32.aligned.released"]
    assert list(made[0]["table4"].index) == aligned


def test_the_papers_totals_are_means_of_four_categories():
    for name, values in read_publication(PUBLISHED).models.items():
        if values.mce is not None:
            parts = [values.mce_noise, values.mce_blur, values.mce_weather, values.mce_digital]
            assert sum(parts) / 4 == pytest.approx(values.mce, abs=0.00501), name


def test_files_hold_the_tables_figures_findings_and_page(project, made):
    folder = project.comparison
    text = write_robustsight(project, load_settings(project.root))
    assert (folder / "tables.md").read_text() == text
    for name, table in made[0].items():
        found = pd.read_csv(folder / f"{name}.csv").set_index("model")
        assert list(found.columns) == list(table.columns)
    assert pd.read_csv(folder / "table2.csv").set_index("model").loc[NAMESAKE, "clean_accuracy"] == pytest.approx(
        made[0]["table2"].loc[NAMESAKE, "clean_accuracy"]
    )
    kept = json.loads((folder / "metrics" / "robustsight.json").read_text())
    assert set(kept) == set(MODELS), "published values are no metrics of this run"
    assert kept[MODEL]["pgd_accuracy"] == made[0]["table2"].loc[MODEL, "pgd_accuracy"]
    assert not any(math.isnan(value) for row in kept.values() for value in row.values())
    line = next(line for line in text.splitlines() if line.startswith("| resnet18_cifar_linf_eps8_255.adversarial"))
    assert [cell.strip() for cell in line.strip("|").split("|")][1:5] == ["adversarial", "–", "0.869", "–"]
    told = json.loads((folder / "findings.json").read_text())
    assert {one["model"] for one in told} == {ALIGNED}
    assert all(f"- {one['question']} {ALIGNED}: **{one['answer']}**. {one['told']}" in text for one in told)
    assert all(text.count(one["question"]) == 1 for one in told)
    drawn = ["trade_off", "robust_accuracy", "certified_accuracy", "corruptions", "reliability"]
    files = {*(f"{name}.{ending}" for name in drawn for ending in ("png", "svg")), "saliency.png"}
    assert {path.name for path in (folder / "figures").iterdir()} == files
    page = (folder / "report.html").read_text()
    assert all(f'id="plot-{name}"' in page for name in drawn)
    assert 'src="data:image/png;base64,' in page
    assert "What it comes to" in page and "Table 5: errors under corruption" in page


def test_without_a_protocol_on_cifar_there_is_nothing_to_print(project):
    settings = load_settings(project.root)
    other = settings.evaluate.model_copy(update={"protocol": "fmn-3", "also": ()})
    with pytest.raises(InputError, match="nothing is evaluated under protocol 'fmn-3'"):
        write_robustsight(project, settings.model_copy(update={"evaluate": other}))
    corrupted = settings.evaluate.model_copy(update={"protocol": "corruptions", "also": ()})
    with pytest.raises(InputError, match="measures the image set cifar"):
        write_robustsight(project, settings.model_copy(update={"evaluate": corrupted}))


def test_a_published_value_out_of_range_is_refused(tmp_path):
    path = tmp_path / "published.yaml"
    path.write_text(PUBLISHED.read_text().replace("0.948", "94.8"))
    with pytest.raises(InputError, match=r"clean_accuracy: .*94\.8"):
        read_publication(path)
    with pytest.raises(InputError, match="is missing"):
        read_publication(tmp_path / "none.yaml")
    assert isinstance(read_publication(PUBLISHED), Publication)
