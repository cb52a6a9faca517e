"""Imports of multi-label sets: all three formats say the same of the same images, and real files keep their counts."""

import csv
import json

import pytest

from advalign.data.classes import Classes, ClassInfo, write_classes
from advalign.data.imagenet import read_validation
from advalign.data.imports.multilabel import MultilabelImport, import_multilabel, read_judgements
from advalign.data.multilabel import LabelSet, read_multilabel
from advalign.errors import DataError
from advalign.files import Project
from tests.conftest import REFERENCE

EXPORT, EXCERPT = REFERENCE / "multilabel_export.csv", REFERENCE / "multilabel_shankar_excerpt.json"


def numbered(count):
    return Classes(tuple(ClassInfo(k, f"n{k:08d}", f"class {k}", None, k % 2 == 0) for k in range(count)))


CLASSES = numbered(5)
WNIDS = [entry.wnid for entry in CLASSES.entries]
HEADER = (
    "id,category,original_label,proposed_labels,manually_validated,"
    "unclear_multi_labels,wrong_multi_labels,is_problematic\n"
)


def name(number):
    return f"ILSVRC2012_val_{number:08d}.JPEG"


def make_project(root, classes, names):
    (root / "data" / "imagenet" / "val").mkdir(parents=True)
    write_classes(root / "data" / "classes.yaml", classes)
    for one in names:
        (root / "data" / "imagenet" / "val" / one).touch()
    return Project(root)


@pytest.fixture
def project(tmp_path):
    return make_project(tmp_path / "project", CLASSES, map(name, (1, 2, 4, 50000)))


def written(project):
    return project.data / "imagenet" / "multilabel.json"


def test_the_original_schema(project, tmp_path):
    file = tmp_path / "human.json"
    judged = {
        name(1): {"correct": [WNIDS[3], WNIDS[1]], "wrong": [WNIDS[0]], "unclear": [WNIDS[4]]},
        name(2): {"wrong": [WNIDS[2]]},
        name(3): {"correct": [WNIDS[1]]},
    }
    flagged = {name(2): {"reason": "a collage"}, name(3): {"reason": "?"}}
    file.write_text(json.dumps({"initial_annots": judged, "problematic_images": flagged, "imagenet_m": []}))
    assert import_multilabel(project, file) == MultilabelImport("original", 3, 2, 1, 1, 1, 2, 0)
    assert read_multilabel(written(project), CLASSES.index_of_wnid()) == {
        name(1): LabelSet(frozenset({1, 3}), frozenset({4}), frozenset({0})),
        name(2): LabelSet(frozenset(), wrong=frozenset({2}), problematic=True),
    }
    assert json.loads(written(project).read_text())["initial_annots"][name(1)]["correct"] == [WNIDS[1], WNIDS[3]]


def spelt(spelling):
    """The original schema with names in one spelling in the judgements and in another in the flags."""
    judged = {name(1): {"correct": [WNIDS[3]]}, name(2): {"correct": [WNIDS[1]]}}
    flagged = {name(2): {"reason": "a collage"}}
    bare = {"judgements": judged, "flags": flagged}
    renamed = {one.removesuffix(".JPEG"): value for one, value in bare[spelling].items()}
    content = bare | {spelling: renamed}
    return json.dumps({"initial_annots": content["judgements"], "problematic_images": content["flags"]})


@pytest.mark.parametrize("spelling", ["judgements", "flags"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_flags_and_judgements_are_matched_as_images_are_whatever_their_spelling(project, tmp_path, spelling, mark):
    (tmp_path / "human.json").write_text(mark + spelt(spelling), encoding="utf-8")
    assert import_multilabel(project, tmp_path / "human.json").problematic == 1
    found = read_multilabel(written(project), CLASSES.index_of_wnid())
    assert {one: labels.problematic for one, labels in found.items()} == {name(1): False, name(2): True}


def test_flags_may_be_a_list_and_folders_before_names_do_not_matter(project, tmp_path):
    content = {"initial_annots": {f"val/{name(1)}": {"correct": [WNIDS[3]]}}, "problematic_images": [name(1)]}
    (tmp_path / "human.json").write_text(json.dumps(content))
    assert import_multilabel(project, tmp_path / "human.json").problematic == 1


def test_a_name_with_a_dot_is_matched_by_its_whole_stem(tmp_path):
    project = make_project(tmp_path, CLASSES, ["a.v2.JPEG"])
    (tmp_path / "export.csv").write_text(HEADER + "a.v2,M,2,1,True,,,False\na.v3,M,2,3,True,,,False\n")
    done = import_multilabel(project, tmp_path / "export.csv")
    assert (done.images, done.without_file) == (1, 1)
    assert read_multilabel(written(project), CLASSES.index_of_wnid()) == {"a.v2.JPEG": LabelSet(frozenset({1}))}


def test_two_spellings_of_one_image_are_refused_in_every_format(project, tmp_path):
    twice = {name(1): {"correct": [WNIDS[3]]}, name(1)[:-5]: {"correct": [WNIDS[1]]}}
    for text in (
        json.dumps({"initial_annots": twice, "problematic_images": {}}),
        f"{HEADER}{name(1)},M,2,1,True,,,False\n{name(1)[:-5]},M,2,3,True,,,False\n",
    ):
        (tmp_path / "twice").write_text(text)
        with pytest.raises(DataError, match=rf"'{name(1)}' and '{name(1)[:-5]}' are one image: remove one"):
            import_multilabel(project, tmp_path / "twice")
        assert not written(project).exists()


def test_a_spreadsheets_export_is_read(project, tmp_path):
    """Quoted and padded names of columns, a byte order mark, and empty columns at the right."""
    quoted = ",".join(f'" {column}"' for column in HEADER.strip().split(","))
    (tmp_path / "export.csv").write_text(f"\ufeff{quoted},,\r\n{name(1)},M,2,1,True,,,False,,\r\n", encoding="utf-8")
    assert import_multilabel(project, tmp_path / "export.csv").images == 1


def test_the_csv_export(project, tmp_path):
    file = tmp_path / "export.csv"
    file.write_text(
        HEADER + f'{name(1)},M,2,"1, 3",True,4,"0, 2",False\n{name(2)},Z,0,,True,,,True\n{name(3)},A,1,1,True,,,False\n'
    )
    assert import_multilabel(project, file) == MultilabelImport("export2024", 3, 2, 1, 1, 1, 2, 0)
    assert read_multilabel(written(project), CLASSES.index_of_wnid()) == {
        name(1): LabelSet(frozenset({1, 3}), frozenset({4}), frozenset({0, 2})),
        name(2): LabelSet(frozenset(), problematic=True),
    }


def test_a_class_in_two_groups_counts_in_the_better_one(project, tmp_path):
    file = tmp_path / "export.csv"
    file.write_text(HEADER + f'{name(1)},M,2,"1, 3",True,"3, 4","1, 4, 0",True\n')
    assert import_multilabel(project, file).contradictory == 1
    assert read_multilabel(written(project), CLASSES.index_of_wnid()) == {
        name(1): LabelSet(frozenset({1, 3}), frozenset({4}), frozenset({0}), problematic=True)
    }


def test_real(project, tmp_path):
    lists = [[number % 5] for number in range(50_000)]
    lists[0], lists[1], lists[3] = [4, 2], [], [0]
    (tmp_path / "real.json").write_text(json.dumps(lists))
    assert import_multilabel(project, tmp_path / "real.json") == MultilabelImport("real", 50_000, 4, 49_996, 0, 1, 0, 0)
    assert read_multilabel(written(project), CLASSES.index_of_wnid()) == {
        name(1): LabelSet(frozenset({2, 4})),
        name(2): LabelSet(frozenset()),
        name(4): LabelSet(frozenset({0})),
        name(50_000): LabelSet(frozenset({4})),
    }


def test_names_in_data_decide_the_suffix_and_evaluation_reads_the_result(tmp_path):
    project = make_project(tmp_path, CLASSES, [name(1).replace("JPEG", "jpg")])
    (project.data / "imagenet" / "labels.csv").write_text(f"image,wnid\n{name(1).replace('JPEG', 'jpg')},{WNIDS[2]}\n")
    (tmp_path / "export.csv").write_text(HEADER + f'{name(1)},M,2,"1, 3",True,,,False\n')
    import_multilabel(project, tmp_path / "export.csv")
    (image,) = read_validation(project, CLASSES)
    assert (image.path.name, image.label, image.labels.correct) == (name(1).replace("JPEG", "jpg"), 2, {1, 3})


@pytest.mark.parametrize(
    ("row", "told"),
    [
        (f"{name(1)},M,2,5,True,,,False", rf"line 3 \({name(1)}\): proposed_labels holds '5', .* 0 \.\. 4"),
        (f'{name(1)},M,2,"1, -1",True,,,False', "proposed_labels holds '-1'"),
        (f"{name(1)},M,2,1,True,x,,False", "unclear_multi_labels holds 'x'"),
        (f'{name(1)},M,2,1,True,,"1,,2",False', "wrong_multi_labels holds ''"),
        (f"{name(1)},M,1000,1,True,,,False", "original_label holds '1000'"),
        (f"{name(1)},M,,1,True,,,False", "original_label must be one class index"),
        (f"{name(1)},M,2,1,True,,,maybe", "is_problematic must be True or False, got 'maybe'"),
        (f"{name(2)},M,2,1,True,,,False", "the image is in two lines"),
        (",M,2,1,True,,,False", "the image has no name"),
        (f"{name(1)},M,2,1,True", "line 3: 5 cells, the header has 8"),
        (f"{name(1)},M,2,1,3,True,,,False", "line 3: 9 cells, the header has 8"),
    ],
)
def test_a_bad_row_is_named(project, tmp_path, row, told):
    (tmp_path / "export.csv").write_text(f"{HEADER}{name(2)},A,1,1,True,,,False\n{row}\n")
    refused(project, tmp_path / "export.csv", told)


@pytest.mark.parametrize(
    ("lists", "told"),
    [
        ([[0]] * 49_999, "49999 entries, ReaL has one for each of 50000"),
        ([[0]] * 6 + [[1000]] + [[0]] * 49_993, rf"{name(7)}: label 1000, expected class indices 0 \.\. 4"),
        ([[True]] * 50_000, f"{name(1)}: label True"),
        ([0] * 50_000, "0 is not a list"),
    ],
)
def test_a_bad_list_is_named(project, tmp_path, lists, told):
    (tmp_path / "real.json").write_text(json.dumps(lists))
    refused(project, tmp_path / "real.json", told)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ('{"initial_annots": {}}', "not a multi-label set"),
        ('{"initial_annots": {}, "problematic_images": "a.JPEG"}', "not a multi-label set"),
        ('{"initial_annots": {"a": {"correct": "n1"}}, "problematic_images": {}}', "in 'correct' is not a list"),
        ('{"initial_annots": {"a": ["n00000001"]}, "problematic_images": {}}', r"a: \['n00000001'\] is not \{group: "),
        ("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\n", "looks like a Git LFS pointer"),
        ("<html>sign in</html>", "looks like a web page"),
        (json.dumps({"initial_annots": {"a": {"correct": ["n1"]}}, "problematic_images": {}}), "a: unknown wnid 'n1'"),
        ("[[", "not valid JSON"),
        ("a,b\n1,2\n", "column id is missing: expected the original JSON"),
        ("", "column id is missing"),
        ("\ufeff", "column id is missing"),
    ],
)
def test_another_file_is_told(project, tmp_path, content, told):
    (tmp_path / "file").write_text(content)
    refused(project, tmp_path / "file", told)


def test_a_missing_or_binary_file_is_told(project, tmp_path):
    refused(project, tmp_path / "absent", "cannot be read")
    (tmp_path / "file").write_bytes(b"\x80\x04\x95")
    refused(project, tmp_path / "file", "not a multi-label set, expected the original JSON")


def refused(project, file, told):
    written(project).write_text("as it was")
    with pytest.raises(DataError, match=told) as caught:
        import_multilabel(project, file, replace=True)
    assert str(caught.value).startswith(str(file))
    assert "\n" not in str(caught.value)
    assert written(project).read_text() == "as it was"
    assert sorted(path.name for path in written(project).parent.iterdir()) == ["multilabel.json", "val"]


def test_images_are_needed_first(tmp_path):
    project = make_project(tmp_path, CLASSES, [])
    (tmp_path / "export.csv").write_text(f"{HEADER}{name(2)},A,1,1,True,,,False\n")
    with pytest.raises(DataError, match="holds no images: import them first with `advalign data import imagenet`"):
        import_multilabel(project, tmp_path / "export.csv")
    (project.data / "imagenet" / "val" / name(1)).touch()
    with pytest.raises(DataError, match="none of the images in data/imagenet/val"):
        import_multilabel(project, tmp_path / "export.csv")
    (project.data / "classes.yaml").unlink()
    with pytest.raises(DataError, match="advalign data import classes"):
        import_multilabel(project, tmp_path / "export.csv")


def test_other_content_is_kept_unless_replaced(project, tmp_path):
    file = tmp_path / "export.csv"
    file.write_text(f"{HEADER}{name(2)},A,1,1,True,,,False\n")
    import_multilabel(project, file)
    before = written(project).stat()
    import_multilabel(project, file)
    assert written(project).stat().st_ino == before.st_ino
    file.write_text(f"{HEADER}{name(2)},A,1,2,True,,,False\n")
    with pytest.raises(DataError, match=r"multilabel\.json exists with other content"):
        import_multilabel(project, file)
    import_multilabel(project, file, replace=True)
    assert read_multilabel(written(project), CLASSES.index_of_wnid())[name(2)].correct == {2}


@pytest.mark.skipif(not EXPORT.is_file(), reason=f"reference data is not beside the repository: {EXPORT.name}")
def test_the_published_export(tmp_path):
    classes = numbered(1000)
    schema, sets = read_judgements(EXPORT, classes)
    assert (schema, len(sets)) == ("export2024", 20_000)
    without = [labels for labels in sets.values() if not labels.correct]
    assert len(without) == 451
    assert all(labels.problematic for labels in without)
    assert sum(labels.problematic for labels in sets.values()) == 1308
    assert sets[name(23277)] == LabelSet(
        frozenset({415, 813, 868}), frozenset(), frozenset({467, 582, 865, 886, 963}), problematic=True
    )
    names = sorted(sets)[:300]
    project = make_project(tmp_path, classes, [*names, name(60_000)])
    done = import_multilabel(project, EXPORT)
    assert (done.judged, done.images, done.without_file, done.unjudged) == (20_000, 300, 19_700, 1)
    assert sum(bool(labels.correct & labels.wrong) for labels in sets.values()) == 358
    found = read_multilabel(written(project), classes.index_of_wnid())
    changed = [one for one in names if found[one] != sets[one]]
    assert len(changed) == done.contradictory > 0
    for one in names:
        assert (found[one].correct, found[one].problematic) == (sets[one].correct, sets[one].problematic)
        assert found[one].wrong == sets[one].wrong - sets[one].correct - found[one].unclear
    with EXPORT.open(newline="") as file:
        row = next(row for row in csv.DictReader(file) if row["id"] == names[0])
    assert set(map(int, row["proposed_labels"].split(","))) == set(sets[names[0]].correct)


@pytest.mark.skipif(not EXCERPT.is_file(), reason=f"reference data is not beside the repository: {EXCERPT.name}")
def test_the_published_excerpt(tmp_path):
    published = json.loads(EXCERPT.read_text())["initial_annots"]
    wnids = sorted({wnid for judged in published.values() for group in judged.values() for wnid in group})
    classes = Classes(tuple(ClassInfo(k, wnid, wnid, None, True) for k, wnid in enumerate(wnids)))
    project = make_project(tmp_path, classes, published)
    done = import_multilabel(project, EXCERPT)
    assert (done.schema, done.images, done.without_file, done.unjudged) == ("original", len(published), 0, 0)
    index = classes.index_of_wnid()
    assert read_multilabel(written(project), index) == read_multilabel(EXCERPT, index)
