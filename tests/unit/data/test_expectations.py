"""Expectations: all hold on good data, and each way of breaking it is told by exactly the expectation it breaks."""

import json
import re
import shutil

import pandas as pd
import pytest

from advalign.data.classes import read_classes
from advalign.data.expectations import check_tables, validate, write_validation
from advalign.data.sets.stimuli import StimulusSet, load_stimuli
from advalign.data.stimuli import freeze_stimuli, save_stimuli
from advalign.data.suites import map_suite
from advalign.data.validated import Failure, Validation
from advalign.errors import DataError
from advalign.files import Project
from advalign.settings import load_settings


@pytest.fixture
def copy(sample_root, tmp_path):
    """A project of its own with frozen stimuli; the pixels of the shared sample, but its own labels to break."""
    for name in ("params.yaml", "data/classes.yaml", "data/imagenet/labels.csv", "data/imagenet/multilabel.json"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(sample_root / name, tmp_path / name)
    for name in ("data/clickme", "data/imagenet/val"):
        (tmp_path / name).symlink_to(sample_root / name)
    project = Project(tmp_path)
    save_stimuli(project, freeze_stimuli(project, load_settings(tmp_path).stimuli, 0))
    return project


def check(project):
    return validate(project, load_settings(project.root))


def failed(project):
    """{(table, column, expectation): failure}."""
    found = check(project)
    assert not found.success
    return {(item.table, item.column, item.expectation.removeprefix("expect_")): item for item in found.failures}


def tell(item, value):
    """Whether every example holds the value as a word of its own (the row's name may stand beside it)."""
    word = re.compile(rf"(?<![\w.-]){re.escape(str(value))}(\.0)?(?![\w.])")
    return bool(item.examples) and all(word.search(example) for example in item.examples)


def break_manifest(project, column, rows, value):
    stimuli = load_stimuli(project)
    manifest = stimuli.manifest.copy()
    manifest.loc[rows, column] = value
    save_stimuli(project, StimulusSet(manifest, stimuli.pixels, stimuli.map_pixels))
    return manifest


def break_maps(project, position, change):
    stimuli = load_stimuli(project)
    change(stimuli.map_pixels[position])
    save_stimuli(project, stimuli)
    return stimuli.manifest.loc[position, "stimulus"]


def break_labels(project, change):
    path = project.data / "imagenet" / "multilabel.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def test_all_hold_on_the_sample(copy):
    found = check(copy)
    assert found.success
    assert found.failures == ()
    assert set(found.checked) == {"manifest", "superclasses", "maps", "labels"}
    assert found.checked["manifest"] >= 12
    assert found.checked["maps"] >= 5
    assert found.checked["labels"] >= 5


def test_a_duplicate_stimulus_is_named(copy):
    manifest = load_stimuli(copy).manifest
    twice = manifest.loc[0, "stimulus"]
    break_manifest(copy, "stimulus", 7, twice)
    found = failed(copy)
    assert set(found) == {
        ("manifest", "stimulus", "column_values_to_be_unique"),
        ("maps", "stimulus", "column_values_to_be_unique"),
    }
    for item in found.values():
        assert item.unexpected == 2
        assert tell(item, twice)


def test_the_same_picture_twice_is_named(copy):
    sha256 = load_stimuli(copy).manifest.loc[3, "sha256"]
    break_manifest(copy, "sha256", 9, sha256)
    found = failed(copy)
    assert set(found) == {("manifest", "sha256", "column_values_to_be_unique")}
    (item,) = found.values()
    assert tell(item, sha256)


def test_an_unknown_superclass_is_named(copy):
    break_manifest(copy, "superclass", 4, "fish")
    found = failed(copy)
    item = found["manifest", "superclass", "column_values_to_be_in_set"]
    assert item.unexpected == len(item.examples) == 1
    assert tell(item, "fish")
    assert {key[0] for key in found}.isdisjoint({"maps", "labels"})


def test_an_unbalanced_superclass_is_named(copy):
    """A bird stands in a dog's place: rows, categories, decisions and names are as wanted, only the balance is lost."""
    settings = load_settings(copy.root).stimuli
    stimuli = load_stimuli(copy)
    more = freeze_stimuli(copy, settings.model_copy(update={"images_per_category": 3}), 0).manifest
    bird = more[(more["superclass"] == "bird") & ~more["sha256"].isin(stimuli.manifest["sha256"])].iloc[0]
    manifest = stimuli.manifest.copy()
    manifest.loc[manifest.index[manifest["superclass"] == "dog"][0]] = bird
    save_stimuli(copy, StimulusSet(manifest, stimuli.pixels, stimuli.map_pixels))
    told = str(failed(copy))
    assert "dog" in told or "bird" in told


def test_a_superclass_that_is_missing_altogether_is_named(copy):
    manifest = load_stimuli(copy).manifest
    break_manifest(copy, "superclass", manifest["superclass"] == "dog", "bird")
    found = failed(copy)
    assert ("manifest", "superclass", "column_distinct_values_to_equal_set") in found
    assert "dog" not in found["manifest", "superclass", "column_distinct_values_to_equal_set"].examples[0]


@pytest.mark.parametrize(
    ("column", "value", "expectation"),
    [
        ("wnid", "n123", "column_values_to_match_regex"),
        ("sha256", "xyz", "column_values_to_match_regex"),
        ("class_index", 36, "column_values_to_be_between"),
        ("class_index", -1, "column_values_to_be_between"),
    ],
)
def test_a_value_out_of_its_form_is_named(copy, column, value, expectation):
    break_manifest(copy, column, 2, value)
    item = failed(copy)["manifest", column, expectation]
    assert item.unexpected == len(item.examples) == 1
    assert tell(item, value)


def test_a_null_superclass_is_counted(copy):
    break_manifest(copy, "superclass", [1, 5], None)
    item = failed(copy)["manifest", "superclass", "column_values_to_not_be_null"]
    assert item.unexpected == 2


def test_one_turned_decision_moves_the_share_of_animate(copy):
    manifest = load_stimuli(copy).manifest
    break_manifest(copy, "label", 0, 1 - manifest.loc[0, "label"])
    assert ("manifest", "label", "column_mean_to_be_between") in failed(copy)


@pytest.mark.parametrize(("column", "values"), [("label", (1, 0)), ("superclass", ("bird", "dog"))])
def test_two_rows_that_contradict_their_class_are_noticed(copy, column, values):
    """All totals stay, yet an animate stimulus is labelled inanimate (a dog is a bird) and the other way round."""
    manifest = load_stimuli(copy).manifest
    rows = [manifest.index[manifest[column] == value][0] for value in values[::-1]]
    break_manifest(copy, column, rows, list(values))
    assert {key[0] for key in failed(copy)} == {"manifest"}


def test_a_missing_row_is_counted(copy):
    stimuli = load_stimuli(copy)
    save_stimuli(copy, StimulusSet(stimuli.manifest[:-1], stimuli.pixels[:-1], stimuli.map_pixels[:-1]))
    item = failed(copy)["manifest", "", "table_row_count_to_equal"]
    assert tell(item, 71)


def test_a_constant_map_fails_by_its_range(copy):
    break_maps(copy, 11, lambda pixels: pixels.fill_(7))
    found = failed(copy)
    assert found["maps", "range", "column_values_to_be_between"].unexpected == 1
    assert tell(found["maps", "range", "column_values_to_be_between"], 0)
    assert {key[0] for key in found} == {"maps"}
    assert {key[1] for key in found} == {"range", "coverage", "peak_share", "entropy"}


def test_a_map_that_is_everywhere_fails_by_its_coverage(copy):
    def everywhere(pixels):
        pixels.fill_(200)
        pixels[0, :3] = 0

    break_maps(copy, 11, everywhere)
    assert {key[:2] for key in failed(copy)} == {("maps", "coverage"), ("maps", "peak_share"), ("maps", "entropy")}


def test_a_failing_map_is_named_by_its_stimulus(copy):
    stimulus = break_maps(copy, 11, lambda pixels: pixels.fill_(7))
    item = failed(copy)["maps", "range", "column_values_to_be_between"]
    assert any(stimulus in example for example in item.examples)


CORRECT = ("labels", "correct_labels", "column_values_to_be_between")
OVERLAP = ("labels", "overlap", "column_values_to_be_between")


def no_correct_label(content):
    name = next(name for name in content["initial_annots"] if name not in content["problematic_images"])
    content["initial_annots"][name]["correct"] = []
    return name


def contradiction(content):
    name = next(iter(content["initial_annots"]))
    content["initial_annots"][name]["wrong"] = content["initial_annots"][name]["correct"][:1]
    return name


@pytest.mark.parametrize(("change", "key", "value"), [(no_correct_label, CORRECT, 0), (contradiction, OVERLAP, 1)])
def test_labels_that_cannot_be_are_counted_and_named(copy, change, key, value):
    break_labels(copy, change)
    found = failed(copy)
    assert set(found) == {key}
    assert found[key].unexpected == 1
    assert tell(found[key], value)


@pytest.mark.parametrize(("change", "key"), [(no_correct_label, CORRECT), (contradiction, OVERLAP)])
def test_a_failing_label_is_named_by_its_image(copy, change, key):
    names = []
    break_labels(copy, lambda content: names.append(change(content)))
    assert any(names[0] in example for example in failed(copy)[key].examples)


def test_a_flagged_image_may_be_without_a_correct_label(copy):
    def flag(content):
        content["problematic_images"][no_correct_label(content)] = {"reason": "..."}

    break_labels(copy, flag)
    assert check(copy).success


def test_no_judged_image_at_all_is_noticed(copy):
    break_labels(copy, lambda content: content["initial_annots"].clear())
    assert ("labels", "", "table_row_count_to_be_between") in failed(copy)


def test_several_failures_are_all_told_and_examples_are_few(copy):
    break_manifest(copy, "wnid", slice(None), "none")
    break_labels(copy, contradiction)
    found = failed(copy)
    item = found["manifest", "wnid", "column_values_to_match_regex"]
    assert item.unexpected == len(load_stimuli(copy))
    assert len(item.examples) == 5
    assert tell(item, "none")
    assert item.told == [*item.examples, "+ 67 more"]
    assert [row["stimulus"] for row in item.rows] == list(load_stimuli(copy).manifest["stimulus"])
    assert OVERLAP in found


def test_a_column_that_is_missing_fails_and_says_so():
    table = pd.DataFrame({"stimulus": ["a"], "range": [1.0], "coverage": [0.1], "entropy": [0.8]})
    found = check_tables({"maps": (table, lambda gxe: map_suite(gxe, 64 * 64))})
    assert {item.column for item in found.failures} == {"peak_share"}
    assert all("peak_share" in item.examples[0] for item in found.failures)


def test_missing_stimuli_are_one_line(copy):
    shutil.rmtree(copy.stimuli)
    with pytest.raises(DataError, match="outputs/stimuli is missing"):
        check(copy)


def test_the_metric_file_says_what_was_checked_and_what_failed(copy):
    rows = ({"stimulus": "a", "range": 0.0}, {"stimulus": "b", "range": 0.0})
    failure = Failure("maps", "expect_x", "range", "it is flat", 2, ("0.0", "0.0"), rows)
    write_validation(copy, Validation({"manifest": 13, "maps": 5}, (failure,)))
    assert json.loads((copy.root / "outputs" / "validation.json").read_text()) == {
        "success": 0,
        "manifest": {"checked": 13, "failed": 0},
        "maps": {"checked": 5, "failed": 1},
        "failures": [
            {
                "table": "maps",
                "expectation": "expect_x",
                "column": "range",
                "why": "it is flat",
                "unexpected": 2,
                "examples": ["0.0", "0.0"],
            }
        ],
    }
    write_validation(copy, check(copy))
    written = json.loads((copy.root / "outputs" / "validation.json").read_text())
    assert (written["success"], written["failures"]) == (1, [])
    assert all(written[table]["failed"] == 0 for table in ("manifest", "maps", "labels"))


def test_the_sample_walks_every_path_of_the_labels(copy):
    """Otherwise the label suite would hold for want of cases."""
    content = json.loads((copy.data / "imagenet" / "multilabel.json").read_text())
    annotations = content["initial_annots"]
    assert any(not annotations[name]["correct"] for name in content["problematic_images"])
    assert any(len(judged["correct"]) == 2 for judged in annotations.values())
    assert any(judged.get("unclear") for judged in annotations.values())
    assert len(read_classes(copy.data / "classes.yaml")) == 36
