"""classes.yaml, multi-label sets and the validation images that both speak of."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from advalign.data.classes import Classes, ClassInfo, checked_classes, read_classes, write_classes
from advalign.data.imagenet import read_validation
from advalign.data.multilabel import LabelSet, read_multilabel
from advalign.errors import DataError
from advalign.files import Project
from tests.conftest import REFERENCE

EXCERPT = REFERENCE / "multilabel_shankar_excerpt.json"
ENTRIES = (
    ClassInfo(0, "n01440764", "tench", None, True),
    ClassInfo(1, "n02099601", "golden retriever", "dog", True),
    ClassInfo(2, "n04285008", "sports car", "wheeled vehicle", False),
)
INDEX = {entry.wnid: entry.index for entry in ENTRIES}
TENCH, DOG, CAR = INDEX


def test_round_trip_of_classes(tmp_path):
    path = tmp_path / "classes.yaml"
    write_classes(path, Classes(ENTRIES))
    classes = read_classes(path)
    assert classes == Classes(ENTRIES)
    assert len(classes) == 3
    assert classes[2].name == "sports car"
    assert classes.decision_of_class == [1, 1, 0]
    assert classes.index_of_wnid() == {"n01440764": 0, "n02099601": 1, "n04285008": 2}
    assert len(path.read_text().splitlines()) == 3


NAMES = st.text(st.characters(codec="ascii", categories=["L", "N", "P", "Zs"]), min_size=1).map(str.strip).filter(bool)


@pytest.mark.parametrize(
    "name", ["crane, bird", "jack-o'-lantern", "no", "null", "1e3", "carpenter's kit: tool kit", "# mark", "[x]"]
)
def test_round_trip_of_names_that_mean_something_to_yaml(tmp_path, name):
    classes = Classes((ClassInfo(0, "n00000001", name, name, False),))
    write_classes(tmp_path / "classes.yaml", classes)
    assert read_classes(tmp_path / "classes.yaml") == classes


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(NAMES, NAMES | st.none(), st.booleans()), min_size=1, max_size=4))
def test_round_trip_of_any_names(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("classes") / "classes.yaml"
    entries = (ClassInfo(i, f"n{i:08d}", name, group, animate) for i, (name, group, animate) in enumerate(rows))
    classes = Classes(tuple(entries))
    write_classes(path, classes)
    assert read_classes(path) == classes


ROW = "{wnid: n%08d, name: a, superclass: dog, animate: true}"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (f"0: {ROW % 1}\n2: {ROW % 2}\n", "class indices must be 0 .. 1 without gaps"),
        (f"1: {ROW % 1}\n2: {ROW % 2}\n", "class indices must be 0 .. 1 without gaps"),
        (f"0: {ROW % 1}\n1: {ROW % 1}\n", "belongs to two classes"),
        ("0: {wnid: n1, name: a, superclass: dog}\n", "not a table of classes.*animate"),
        ("0: {name: a, animate: true}\n", "not a table of classes.*wnid"),
        ('0: {wnid: n1, name: a, superclass: dog, animate: "false"}\n', "animate"),
        ("0: {wnid: n1, name: a, superclass: dog, animate: null}\n", "animate"),
        ("0: [n1, a, dog, true]\n", "not a table of classes"),
        (f"x: {ROW % 1}\n", "not a table of classes"),
        ("- 1\n", "not a table of classes"),
        ("", "not a table of classes"),
        ("0: {", "is not valid YAML"),
    ],
)
def test_a_table_that_is_none_is_told_on_one_line(tmp_path, text, told):
    path = tmp_path / "classes.yaml"
    path.write_text(text)
    with pytest.raises(DataError, match=told) as caught:
        read_classes(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


GOOD = "0: {wnid: n0, name: a, superclass: null, animate: true}\n"


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ("1: {wnid: n1, name: a, superclass: no, animate: true}", "superclass is False: write text, in quotes"),
        ("1: {wnid: n1, name: a, superclass: 1, animate: true}", "superclass is 1: write text"),
        ("1: {wnid: n1, name: a, superclass: [a, b], animate: true}", r"superclass is \['a', 'b'\]: write text"),
        ("1: {wnid: n1, name: a, superclass: '', animate: true}", "superclass is '': write text"),
        ("1: {wnid: n1, name: on, superclass: dog, animate: true}", "name is True: write text, in quotes"),
        ("1: {wnid: 1440764, name: a, superclass: dog, animate: true}", "wnid is 1440764: write text"),
        ("1: {wnid: n1, name: a, superclas: dog, animate: true}", "'superclas' is unknown"),
        ("1: {wnid: n1, name: a, superclass: dog, animate: 1}", "animate is 1: write true or false"),
        ('"0": {wnid: n1, name: a, superclass: dog, animate: true}', "'0' is not a class index: .* without quotes"),
        ("1.0: {wnid: n1, name: a, superclass: dog, animate: true}", "1.0 is not a class index"),
        ("1: [n1, a, dog, true]", r"\['n1', 'a', 'dog', True\] is not a class"),
    ],
)
def test_values_of_another_type_are_refused_with_their_line(tmp_path, row, told):
    path = tmp_path / "classes.yaml"
    path.write_text(f"# classes\n{GOOD}\n{row}\n")
    with pytest.raises(DataError, match=told) as caught:
        checked_classes(path)
    assert str(caught.value).startswith(f"{path}: line 4: ")
    assert "\n" not in str(caught.value)


def test_a_sound_table_is_read_as_it_is(tmp_path):
    path = tmp_path / "classes.yaml"
    write_classes(path, Classes(ENTRIES))
    assert checked_classes(path) == read_classes(path) == Classes(ENTRIES)
    path.write_text("0: {wnid: n0, name: a, animate: true}\n")
    assert checked_classes(path)[0].superclass is None
    for text, told in (("- 1\n", "not a table of classes"), ("", "not a table"), ("0: {", "is not valid YAML")):
        path.write_text(text)
        with pytest.raises(DataError, match=told):
            checked_classes(path)
    path.unlink()
    with pytest.raises(DataError, match="is missing"):
        checked_classes(path)


def test_where_the_yaml_breaks_is_told_in_words(tmp_path):
    (tmp_path / "classes.yaml").write_text("0: {wnid: n1\n1: 2")
    with pytest.raises(DataError, match="line 2") as caught:
        read_classes(tmp_path / "classes.yaml")
    assert " object at 0x" not in str(caught.value)


def test_missing_files_say_how_to_get_them(tmp_path):
    with pytest.raises(DataError, match=r"classes\.yaml is missing: get the data with `dvc pull data\.dvc`"):
        read_classes(tmp_path / "classes.yaml")
    with pytest.raises(DataError, match=r"multilabel\.json is missing: get the data with `dvc pull data\.dvc`"):
        read_multilabel(tmp_path / "multilabel.json", INDEX)


def content(annotations, problematic=()):
    return {
        "initial_annots": annotations,
        "problematic_images": {name: {"reason": "..."} for name in problematic},
        "imagenet_m": [],
    }


def multilabel(folder, value):
    path = folder / "multilabel.json"
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    return path


def test_sets_are_read_by_class_index(tmp_path):
    annotations = {
        "a.JPEG": {"correct": [DOG, CAR], "wrong": [TENCH], "unclear": []},
        "b.JPEG": {"correct": [], "wrong": []},
        "c.JPEG": {"unclear": [CAR]},
        "d.JPEG": {"correct": [TENCH, TENCH], "later_field": ["n99999999"]},
    }
    found = read_multilabel(multilabel(tmp_path, content(annotations, ["b.JPEG", "unannotated.JPEG"])), INDEX)
    assert found == {
        "a.JPEG": LabelSet(correct=frozenset({1, 2}), wrong=frozenset({0})),
        "b.JPEG": LabelSet(correct=frozenset(), problematic=True),
        "c.JPEG": LabelSet(correct=frozenset(), unclear=frozenset({2})),
        "d.JPEG": LabelSet(correct=frozenset({0})),
    }


@pytest.mark.parametrize("group", ["correct", "unclear", "wrong"])
def test_an_unknown_wnid_is_named_with_its_image_and_group(tmp_path, group):
    path = multilabel(tmp_path, content({"a.JPEG": {"correct": [DOG]}, "b.JPEG": {group: [CAR, "n12345678"]}}))
    with pytest.raises(DataError, match=rf"multilabel\.json: b\.JPEG: unknown wnid 'n12345678' in '{group}'"):
        read_multilabel(path, INDEX)


@pytest.mark.parametrize(
    "value",
    [
        "{",
        "",
        "[]",
        "7",
        {"initial_annots": {}},
        {"problematic_images": {}},
        {"initial_annots": [], "problematic_images": {}},
        content({"a.JPEG": [DOG]}),
        content({"a.JPEG": {"correct": None}}),
        content({"a.JPEG": {"correct": DOG}}),
    ],
)
def test_another_schema_is_told_on_one_line(tmp_path, value):
    path = multilabel(tmp_path, value)
    with pytest.raises(DataError, match=r"not a multi-label set|not valid JSON") as caught:
        read_multilabel(path, INDEX)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(not EXCERPT.is_file(), reason=f"reference data is not beside the repository: {EXCERPT.name}")
def test_an_excerpt_of_the_published_sets_is_read():
    published = json.loads(EXCERPT.read_text())
    annotations = published["initial_annots"]
    wnids = sorted({wnid for judged in annotations.values() for group in judged.values() for wnid in group})
    index = {wnid: number for number, wnid in enumerate(wnids)}
    found = read_multilabel(EXCERPT, index)
    assert list(found) == list(annotations)
    for name, labels in found.items():
        for group in ("correct", "unclear", "wrong"):
            assert {wnids[number] for number in getattr(labels, group)} == set(annotations[name].get(group, []))
        assert labels.problematic == (name in published["problematic_images"])
    first = found["ILSVRC2012_val_00000001.JPEG"]
    assert first.correct == {index["n01751748"]}
    assert len(first.wrong) == 4
    assert any(labels.unclear for labels in found.values())


@pytest.fixture
def project(tmp_path):
    """Three judged images, and one without a multi-label set."""
    folder = tmp_path / "data" / "imagenet"
    (folder / "val").mkdir(parents=True)
    for name in ("b.JPEG", "a.JPEG", "c.JPEG", "unjudged.JPEG"):
        (folder / "val" / name).touch()
    multilabel(folder, content({"b.JPEG": {"correct": [DOG]}, "a.JPEG": {"correct": [CAR]}, "c.JPEG": {}}, ["c.JPEG"]))
    labels = f"image,wnid\nc.JPEG,{TENCH}\na.JPEG,{CAR}\nb.JPEG,{CAR}\nunjudged.JPEG,{DOG}\n"
    (folder / "labels.csv").write_text(labels)
    return Project(tmp_path)


def test_validation_images_are_listed_by_name_with_both_labels(project):
    found = read_validation(project, Classes(ENTRIES))
    assert [image.path for image in found] == [project.data / "imagenet" / "val" / f"{n}.JPEG" for n in "abc"]
    assert [image.label for image in found] == [2, 2, 0]
    assert [set(image.labels.correct) for image in found] == [{2}, {1}, set()]
    assert [image.labels.problematic for image in found] == [False, False, True]


def refused(project, told):
    with pytest.raises(DataError, match=told) as caught:
        read_validation(project, Classes(ENTRIES))
    assert "\n" not in str(caught.value)


def test_an_annotated_image_without_a_file_is_named(project):
    (project.data / "imagenet" / "val" / "b.JPEG").unlink()
    refused(project, r"val/b\.JPEG is missing, but multilabel\.json judges it: .*`dvc pull data\.dvc`")


@pytest.mark.parametrize(
    ("labels", "told"),
    [
        (f"image,wnid\na.JPEG,{CAR}\nb.JPEG,n00000000\nc.JPEG,{CAR}\n", "unknown wnid 'n00000000' for b.JPEG"),
        (f"image,wnid\na.JPEG,{CAR}\nc.JPEG,{CAR}\n", "has no wnid for b.JPEG"),
        (f"image,wnid\na.JPEG,{CAR}\nb.JPEG,\n", "unknown wnid '' for b.JPEG"),
        (f"image,wnid\na.JPEG,{CAR}\nb.JPEG,{CAR}\nb.JPEG,{DOG}\nc.JPEG,{CAR}\n", "b.JPEG is in two lines"),
        (f"name,wnid\na.JPEG,{CAR}\n", "columns must be image, wnid; got 'name, wnid'"),
        (f"wnid,image\n{CAR},a.JPEG\n", "columns must be image, wnid"),
        ("", "labels.csv"),
        (f"image,wnid\na.JPEG,{CAR}\nb.JPEG,{CAR},{DOG},x\n", "labels.csv"),
    ],
)
def test_labels_that_do_not_fit_are_told(project, labels, told):
    (project.data / "imagenet" / "labels.csv").write_text(labels)
    refused(project, told)


def test_missing_labels_say_how_to_get_them(project):
    (project.data / "imagenet" / "labels.csv").unlink()
    refused(project, r"data/imagenet/labels.csv is missing: `dvc pull data\.dvc`")


def test_without_multilabel_sets_every_image_counts_with_its_original_label(project):
    (project.data / "imagenet" / "multilabel.json").unlink()
    found = read_validation(project, Classes(ENTRIES))
    assert [image.path.stem for image in found] == ["a", "b", "c", "unjudged"]
    assert [image.label for image in found] == [2, 2, 0, 1]
    assert not any(image.labels.correct or image.labels.problematic for image in found)


def test_missing_validation_data_says_how_to_get_it(tmp_path):
    refused(Project(tmp_path), r"data/imagenet is missing: `dvc pull data\.dvc`")
