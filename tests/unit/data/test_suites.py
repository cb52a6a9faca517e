"""Rows of evaluations and human maps: all hold on good ones, and each fault is told with the row it is in."""

import json
import math
import shutil

import numpy as np
import pandas as pd
import pytest
import torch

from advalign.data.expectations import check_tables, validate
from advalign.data.results import write_table
from advalign.data.sets.stimuli import StimulusSet, load_stimuli
from advalign.data.stimuli import save_stimuli
from advalign.data.suites import map_entropy, map_suite, map_table
from advalign.errors import DataError
from advalign.files import Project
from advalign.settings import load_settings
from tests.conftest import with_stimuli

MODELS = ("resnet18", "vit_small")


def rows_of(manifest, protocol, model, seed=0):
    """Rows as an evaluation writes them: some guessed wrong, one that no attack moved, one without a rho."""
    rng = np.random.default_rng(seed)
    count = len(manifest)
    rows = manifest[["stimulus", "category", "superclass", "label"]].reset_index(drop=True)
    status = np.array(["ok"] * count, dtype=object)
    status[[2, 5]], status[7] = "misclassified_clean", "attack_failed"
    wrong = status == "misclassified_clean"
    found = status == "ok"
    rows = rows.assign(
        model=model,
        protocol=protocol,
        clean_prediction=np.where(wrong, 1 - rows["label"], rows["label"]),
        status=status,
        norm_l2=np.where(found, rng.uniform(0.1, 3, count), np.nan),
        rho_released=np.where(found, rng.uniform(-1, 1, count), np.nan),
        rho_magnitude=np.where(found, rng.uniform(-1, 1, count), np.nan),
        queries=rng.integers(1, 200, count),
        second_start=np.where(found, 1 + rng.integers(0, 2, count) / 8, np.nan),
    )
    rows.loc[9, ["rho_released", "rho_magnitude"]] = np.nan
    return rows


def path_of(project, model="resnet18", protocol="fmn-fast"):
    return project.evaluations / protocol / f"{model}.parquet"


def write(project, rows, model="resnet18", protocol="fmn-fast"):
    write_table(path_of(project, model, protocol), rows, "identity")


@pytest.fixture(scope="module")
def frozen(sample_root, tmp_path_factory):
    root = tmp_path_factory.mktemp("frozen") / "project"
    project = with_stimuli(sample_root, root)
    manifest = load_stimuli(project).manifest
    for protocol in ("fmn-fast", "feng2025-released"):
        for seed, model in enumerate(MODELS):
            write(project, rows_of(manifest, protocol, model, seed), model, protocol)
    write(project, pd.DataFrame({"image": ["a.JPEG"], "prediction": [3]}), protocol="predictions")  # of no protocol
    first = rows_of(manifest.head(20), "fmn-fast", "resnet18")  # a trial run: not balanced, and again the same stimuli
    write(project, first, protocol="fmn-fast.first20")
    return project


@pytest.fixture
def project(frozen, tmp_path):
    shutil.copytree(frozen.root, tmp_path / "project")
    return Project(tmp_path / "project")


def check(project, **more):
    return validate(project, load_settings(project.root), evaluations=True, **more)


def failed(project):
    """{(table, column, expectation): failure}."""
    found = check(project)
    assert not found.success
    return {(item.table, item.column, item.expectation.removeprefix("expect_")): item for item in found.failures}


def plant(project, position, column, value):
    rows = pd.read_parquet(path_of(project))
    rows.loc[position, column] = value
    write(project, rows)
    return rows.loc[position, "stimulus"]


def test_evaluations_of_all_protocols_hold(frozen):
    found = check(frozen)
    assert found.failures == ()
    assert found.checked["evaluations"] >= 20
    assert found.checked["evaluated"] == 3


def test_rows_in_linf_have_a_table_and_a_largest_norm_of_their_own(project):
    rows = rows_of(load_stimuli(project).manifest, "linf-curve", "resnet18").rename(columns={"norm_l2": "norm_linf"})
    rows["norm_linf"] = rows["norm_linf"] / 3
    write(project, rows, protocol="linf-curve")
    found = check(project)
    assert (found.failures, {"evaluations", "evaluations_linf"} <= found.checked.keys()) == ((), True)
    rows.loc[3, "norm_linf"], rows.loc[4, "norm_linf"], rows.loc[7, "norm_linf"] = 1.5, 1.0, 0.5
    write(project, rows, protocol="linf-curve")
    found = failed(project)
    assert {key[:2] for key in found} == {("evaluations_linf", "norm_linf")}
    assert rows.loc[3, "stimulus"] in str(found["evaluations_linf", "norm_linf", BETWEEN])
    assert rows.loc[4, "stimulus"] not in str(found["evaluations_linf", "norm_linf", BETWEEN])  # black to white
    assert rows.loc[7, "stimulus"] in str(found["evaluations_linf", "norm_linf", "column_values_to_be_null"])


OF_DATA = {"manifest", "superclasses", "maps", "labels", "trials", "clicked"}


def test_the_stage_does_not_look_at_evaluations_and_a_project_without_any_skips_them(project):
    plant(project, 0, "queries", 0)
    assert set(validate(project, load_settings(project.root)).checked) == OF_DATA
    assert not check(project).success
    shutil.rmtree(project.evaluations)
    assert set(check(project).checked) == OF_DATA


NULL, IN_SET = "column_values_to_not_be_null", "column_values_to_be_in_set"
BETWEEN, EQUAL = "column_values_to_be_between", "column_pair_values_to_be_equal"
LARGEST = math.sqrt(3 * 64**2)


FAULTS = [  # (column, position, value, expectation that tells it); position 5 was guessed wrong, 7 was not moved
    *((name, 3, None, NULL) for name in ("model", "protocol", "stimulus", "category", "superclass", "status")),
    *((name, 3, None, NULL) for name in ("label", "clean_prediction", "queries", "norm_l2")),
    ("norm_l2", 5, 1.0, "column_values_to_be_null"),
    ("norm_l2", 7, 1.0, "column_values_to_be_null"),
    ("status", 3, "gave_up", IN_SET),
    ("label", 3, 2, IN_SET),
    ("clean_prediction", 3, 2, IN_SET),
    ("norm_l2", 3, 0.0, BETWEEN),
    ("norm_l2", 3, -0.25, BETWEEN),
    ("norm_l2", 3, LARGEST + 0.01, BETWEEN),
    ("rho_released", 3, 1.01, BETWEEN),
    ("rho_magnitude", 3, -1.01, BETWEEN),
    ("queries", 3, 0, BETWEEN),
    ("second_start", 3, 0.999, BETWEEN),
]


@pytest.fixture(scope="module")
def faulty(frozen, tmp_path_factory):
    """A project with one model per fault, checked once: the stimulus of each fault, and the failures."""
    root = tmp_path_factory.mktemp("faulty") / "project"
    shutil.copytree(frozen.root, root)
    project, stimuli = Project(root), []
    for number, (column, position, value, _) in enumerate(FAULTS):
        rows = pd.read_parquet(path_of(project)).assign(model=f"m{number}")
        stimuli.append(rows.loc[position, "stimulus"])
        rows.loc[position, column] = value
        write(project, rows, f"m{number}")
    return stimuli, failed(project)


@pytest.mark.parametrize("number", range(len(FAULTS)))
def test_a_row_that_cannot_be_is_named(faulty, number):
    column, _, value, expectation = FAULTS[number]
    named = {"protocol": "fmn-fast", "model": f"m{number}", "stimulus": faulty[0][number]}
    name = "/".join((named | ({column: "?"} if column in named else {})).values())
    rows = faulty[1]["evaluations", column, expectation].rows
    assert [row for row in rows if row["row"] == name] == [{"row": name, column: value}]
    assert len(rows) == sum((column, expectation) == (fault[0], fault[3]) for fault in FAULTS) + (
        2 if expectation == "column_values_to_be_null" else 0  # a norm under a status that is null or unknown
    )


def test_the_largest_norm_and_a_perfect_correlation_are_possible(project):
    plant(project, 3, "norm_l2", LARGEST)
    plant(project, 3, "rho_released", -1.0)
    plant(project, 3, "second_start", math.inf)  # one start alone found something
    assert check(project).success


def test_an_unknown_stimulus_is_named(project):
    plant(project, 3, "stimulus", "n00000000_x")
    item = failed(project)["evaluations", "label_in_manifest", NULL]
    assert item.rows == ({"row": "fmn-fast/resnet18/n00000000_x", "label_in_manifest": None},)


def test_a_wrong_decision_is_named_and_moves_the_share_of_animate(project):
    label = pd.read_parquet(path_of(project)).loc[5, "label"]
    stimulus = plant(project, 5, "label", 1 - label)
    found = failed(project)
    (row,) = found["evaluations", "label, label_in_manifest", EQUAL].rows
    assert row == {"row": f"fmn-fast/resnet18/{stimulus}", "label": 1 - label, "label_in_manifest": label}
    moved = 36 + (1 if label == 0 else -1)
    (row,) = found["evaluated", "animate, animate_wanted", EQUAL].rows
    assert row == {"evaluation": "fmn-fast/resnet18", "animate": moved, "animate_wanted": 36}


def test_a_prediction_that_contradicts_the_status_is_named(project):
    label = pd.read_parquet(path_of(project)).loc[3, "label"]
    stimulus = plant(project, 3, "clean_prediction", 1 - label)
    found = failed(project)
    assert set(found) == {("evaluations", "clean_prediction, label", EQUAL)}
    (row,) = found["evaluations", "clean_prediction, label", EQUAL].rows
    assert row["row"] == f"fmn-fast/resnet18/{stimulus}"


def test_a_row_twice_is_named_and_so_is_the_file_with_one_too_many(project):
    rows = pd.read_parquet(path_of(project))
    write(project, pd.concat([rows, rows.iloc[[4]]]))
    found = failed(project)
    name = f"fmn-fast/resnet18/{rows.loc[4, 'stimulus']}"
    assert found["evaluations", "row", "column_values_to_be_unique"].rows == ({"row": name}, {"row": name})
    (row,) = found["evaluated", "stimuli, stimuli_wanted", EQUAL].rows
    assert row == {"evaluation": "fmn-fast/resnet18", "stimuli": 73, "stimuli_wanted": 72}


def test_a_trial_run_is_held_against_its_first_stimuli(project):
    rows = pd.read_parquet(path_of(project, protocol="fmn-fast.first20"))
    write(project, rows[:-1], protocol="fmn-fast.first20")
    found = failed(project)
    assert {key[0] for key in found} == {"evaluated"}
    assert found["evaluated", "stimuli, stimuli_wanted", EQUAL].rows[0]["stimuli_wanted"] == 20


def test_a_file_without_a_column_is_named(project):
    rows = pd.read_parquet(path_of(project, "vit_small"))
    write(project, rows.drop(columns=["rho_released", "queries"]), "vit_small")
    found = failed(project)
    (row,) = found["evaluated", "missing_columns", IN_SET].rows
    assert row == {"evaluation": "fmn-fast/vit_small", "missing_columns": "queries rho_released"}
    assert found["evaluations", "queries", NULL].unexpected == 72


def test_stimuli_without_maps_need_no_map_table_and_no_correlations(project):
    stimuli, settings = load_stimuli(project), load_settings(project.root)
    for path in project.evaluations.glob("f*/*.parquet"):
        write_table(path, pd.read_parquet(path).drop(columns=["rho_released", "rho_magnitude"]), "identity")
    save_stimuli(project, StimulusSet(stimuli.manifest, stimuli.pixels, torch.zeros_like(stimuli.map_pixels)))
    found = failed(project)
    empty = found["maps", "range", BETWEEN]
    assert [row["stimulus"] for row in empty.rows] == list(stimuli.manifest["stimulus"])
    assert found["evaluated", "missing_columns", IN_SET].unexpected == 5
    without = settings.model_copy(update={"stimuli": settings.stimuli.model_copy(update={"split": "imagenet"})})
    found = validate(project, without, evaluations=True)
    assert found.success
    assert set(found.checked) == OF_DATA - {"maps"} | {"evaluations", "evaluated"}


def test_an_unreadable_file_is_one_line(project):
    path_of(project).write_bytes(b"PAR1 no")
    with pytest.raises(DataError, match=r"resnet18\.parquet is damaged.*: run `advalign evaluate resnet18 --protocol"):
        check(project)


def test_the_json_holds_every_failing_row_and_the_metric_file_few(project):
    """68 rows of one model and 69 of the other have a norm of minus one."""
    names = []
    for model, count in zip(MODELS, (68, 69), strict=True):
        rows = pd.read_parquet(path_of(project, model))
        chosen = rows.index[rows["status"] == "ok"][:count]
        rows.loc[chosen, "norm_l2"] = -1.0
        write(project, rows, model)
        names += [f"fmn-fast/{model}/{stimulus}" for stimulus in rows.loc[chosen, "stimulus"]]
    found = check(project)
    (failure,) = json.loads(json.dumps(found.as_json()))["failures"]
    assert len(names) == 137
    assert failure["rows"] == [{"row": name, "norm_l2": -1.0} for name in names]
    (small,) = found.as_metrics()["failures"]
    assert set(small) == {"table", "expectation", "column", "why", "unexpected", "examples"}
    assert (small["unexpected"], len(small["examples"])) == (137, 5)
    assert found.failures[0].told[-1] == "+ 132 more"


def spot(sigma):
    """One click: a Gaussian spot in the middle."""
    fall = torch.exp(-((torch.arange(64) - 32.0) ** 2) / (2 * sigma**2))
    return (255 * fall[:, None] * fall[None]).round().to(torch.uint8)


@pytest.mark.parametrize(
    ("pixels", "entropy"),
    [
        (spot(1), 0.34),
        (spot(2), 0.51),
        (torch.randint(198, 203, (64, 64), generator=torch.Generator().manual_seed(0)), 1.0),  # uniform, in a JPEG
    ],
)
def test_one_click_and_a_uniform_map_fail_by_their_entropy(frozen, pixels, entropy):
    stimuli = load_stimuli(frozen)
    stimuli.map_pixels[11] = pixels
    table = map_table(stimuli.manifest["stimulus"], stimuli.map_pixels)
    found = {
        item.column: item for item in check_tables({"maps": (table, lambda gxe: map_suite(gxe, 64 * 64))}).failures
    }
    stimulus = stimuli.manifest.loc[11, "stimulus"]
    assert found["entropy"].rows == ({"stimulus": stimulus, "entropy": pytest.approx(entropy, abs=0.01)},)


def test_entropy_by_value():
    maps = torch.zeros(3, 4, 4, dtype=torch.uint8)
    maps[0, 0, :2] = 200  # two of sixteen: 1 bit of 4
    maps[1] = 3
    maps[2, 0, 0], maps[2, 1, 1] = 3, 1
    bits = 0.75 * math.log2(4 / 3) + 0.25 * 2
    assert map_entropy(maps).tolist() == pytest.approx([0.25, 1, bits / 4])
    assert map_entropy(maps.repeat(15, 1, 1)).tolist() == pytest.approx([0.25, 1, bits / 4] * 15)


def test_the_bounds_of_entropy_leave_room_around_the_sample(frozen):
    """0.557 and 0.970 at 64 x 64."""
    entropy = map_entropy(load_stimuli(frozen).map_pixels)
    assert 0.557 + 0.1 < entropy.min() < 0.75
    assert 0.90 < entropy.max() < 0.970 - 0.02


PEOPLE = ["human_ceiling", "human_ceiling_corrected", "human_floor"]


def with_people(project):
    """What people agree on is known of all stimuli but the first, and stands in the rows."""
    stimuli = load_stimuli(project)
    known = {"ceiling": 0.5, "ceiling_corrected": 0.6, "floor": 0.1}
    manifest = stimuli.manifest.assign(**known)
    manifest.loc[0, [*known]] = np.nan
    save_stimuli(project, StimulusSet(manifest, stimuli.pixels, stimuli.map_pixels))
    for path in project.evaluations.glob("f*/*.parquet"):
        rows = pd.read_parquet(path)
        agreed = manifest[[*known]].head(len(rows)).set_axis(PEOPLE, axis=1)
        rows = rows.assign(**agreed, auc_released=0.7, nss_released=1.2, emd_released=0.2)
        write_table(path, rows.assign(rho_by_image=rows["rho_released"] / 0.6), "identity")


def test_what_people_agree_on_is_that_of_the_stimuli_and_measures_are_possible(project):
    with_people(project)
    assert check(project).failures == ()
    plant(project, 3, "human_floor", 0.2)
    plant(project, 4, "human_ceiling_corrected", 0.7)  # so that rho by image is not rho divided by it
    plant(project, 0, "human_ceiling", 0.5)  # nobody saw it
    stimulus = plant(project, 8, "auc_released", 1.1)
    plant(project, 9, "emd_released", 1.5)
    plant(project, 10, "nss_released", -4.0)
    found = failed(project)
    assert {key[1:] for key in found} == {
        ("human_floor, human_floor_in_manifest", EQUAL),
        ("human_ceiling, human_ceiling_in_manifest", EQUAL),
        ("human_ceiling_corrected, human_ceiling_corrected_in_manifest", EQUAL),
        ("by_image_off", BETWEEN),
        ("auc_released", BETWEEN),
        ("emd_released", BETWEEN),
        ("nss_released", BETWEEN),
    }
    (row,) = found["evaluations", "auc_released", BETWEEN].rows
    assert row == {"row": f"fmn-fast/resnet18/{stimulus}", "auc_released": 1.1}


def test_rows_without_what_people_agree_on_are_named(project):
    with_people(project)
    write(project, pd.read_parquet(path_of(project)).drop(columns="human_floor"))
    (row,) = failed(project)["evaluated", "missing_columns", IN_SET].rows
    assert row == {"evaluation": "fmn-fast/resnet18", "missing_columns": "human_floor"}


def test_a_ceiling_that_cannot_be_is_named(project):
    with_people(project)
    stimuli = load_stimuli(project)
    manifest = stimuli.manifest.copy()
    manifest.loc[2, "ceiling"] = 1.2
    save_stimuli(project, StimulusSet(manifest, stimuli.pixels, stimuli.map_pixels))
    found = validate(project, load_settings(project.root))
    (failure,) = found.failures
    assert (failure.table, failure.column) == ("manifest", "ceiling")
