"""YAML and JSON from outside: a repeated key is an error of every file, and of no file that only merges."""

import ast
from pathlib import Path

import pytest

from advalign import provenance
from advalign.analysis.published import read_published
from advalign.cli.train import changes_of
from advalign.data.classes import Classes, read_classes
from advalign.data.clickme import read_human_ceiling
from advalign.data.imports.multilabel import read_judgements
from advalign.data.multilabel import read_multilabel
from advalign.errors import DataError, InputError, shown
from advalign.files import Project
from advalign.models.checkpoints import read_card
from advalign.models.declared import read_zoo
from advalign.settings import load_settings, read_trainings
from advalign.strict_files import parse_json, parse_yaml, read_yaml
from advalign.tracking.registry.policies import read_policy
from tests.conftest import REPOSITORY

SETS = '{"initial_annots": {\n "a.JPEG": {"correct": []},\n "a.JPEG": {"correct": []}}, "problematic_images": {}}'
FILES = {
    "params.yaml": (lambda path: load_settings(path.parent), "seed: 0\ncompare: {}\nseed: 1\n", "seed", 1, 3),
    "registry/trainings.yaml": (read_trainings, "trainings:\n  a: {}\n  a: {}\n", "a", 2, 3),
    "registry/zoo.yaml": (read_zoo, "models:\n  a: {group: cnn}\n  a: {group: vit}\n", "a", 2, 3),
    "registry/gates.yaml": (
        lambda path: read_policy(path, "champion"),
        "champion:\n  protocol: fmn\n  bounds:\n    n_valid: {at_least: 100}\n    n_valid: {at_least: 1}\n",
        "n_valid",
        4,
        5,
    ),
    "published.yaml": (read_published, "source: a\nprotocol: feng2025-released\nsource: b\n", "source", 1, 3),
    "classes.yaml": (
        read_classes,
        "0: {wnid: a, name: a, animate: true}\n00: {wnid: b, name: b, animate: true}\n",  # both are 0
        "00",
        1,
        2,
    ),
    "data/clickme/ceiling.yaml": (
        lambda path: read_human_ceiling(Project(path.parents[2])),
        "human_ceiling: 0.6\nhuman_ceiling: 0.9\n",
        "human_ceiling",
        1,
        2,
    ),
    "card.json": (lambda path: read_card(path.parent), '{"seed": 1,\n "name": "a",\n "seed": 2}', "seed", 1, 3),
    "multilabel.json": (lambda path: read_multilabel(path, {}), SETS, "a.JPEG", 2, 3),
    "labels.json": (lambda path: read_judgements(path, Classes(())), SETS, "a.JPEG", 2, 3),
}


@pytest.mark.parametrize("name", FILES)
def test_a_repeated_key_is_refused_with_file_key_and_both_lines(tmp_path, name):
    read, text, key, first, second = FILES[name]
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        read(path)
    source = "params.yaml" if name == "params.yaml" else path
    lines = f"in line {first} and again in line {second}"
    assert str(caught.value) == f"{source}: {key!r} is given twice, {lines}: keep one of them"
    assert caught.value.exit_code == 2


def test_a_data_pointer_with_a_repeated_key_names_no_data(tmp_path):
    pointer = "outs:\n- md5: {}\n  path: data\n"
    (tmp_path / "data.dvc").write_text(pointer.format("1a.dir"))
    assert provenance.data_md5(tmp_path) == "1a.dir"
    (tmp_path / "data.dvc").write_text(pointer.format("1a.dir\n  md5: 2b.dir"))
    assert provenance.data_md5(tmp_path) is None


def test_a_changed_value_of_the_command_line_is_read_as_strictly():
    assert changes_of(["train={a: 1, b: 2}"]) == {"train": {"a": 1, "b": 2}}
    with pytest.raises(InputError, match="--set"):
        changes_of(["train={a: 1, a: 2}"])


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("base: &base {a: 1, b: 2}\nmine: {<<: *base, a: 3}\n", {"a": 3, "b": 2}),
        ("base: &base {a: 1, b: 2}\nmine:\n  a: 3\n  <<: *base\n", {"a": 3, "b": 2}),
        ("one: &one {a: 1}\ntwo: &two\n  <<: *one\n  a: 2\nmine: {<<: *two, b: 4}\n", {"a": 2, "b": 4}),
        ("one: &one {a: 1}\ntwo: &two {a: 2, b: 2}\nmine: {<<: [*one, *two], b: 3}\n", {"a": 1, "b": 3}),
        ("again: &base {a: 1}\nmine: *base\n", {"a": 1}),
    ],
)
def test_what_is_merged_and_said_anew_is_no_repetition(text, values):
    assert parse_yaml(text, "a.yaml")["mine"] == values


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("a: {b: 1, b: 2}", "b"),
        ("- {x: 1}\n- {x: 1, y: {z: 1, 'z': 2}}", "z"),
        ("yes: 1\ntrue: 2", "true"),
        ("1: a\n0x1: b", "0x1"),
        ("{a: {b: 1}, a: {b: 1}}", "a"),
        ("base: &base {a: 1}\nmine: {<<: *base, a: 2, a: 3}", "a"),
        ("base: &base {a: 1}\nmine: {<<: *base, <<: *base}", "<<"),
        ("base: &base {a: 1, a: 2}\nmine: {<<: *base}", "a"),
    ],
)
def test_equal_keys_of_one_mapping_are_found_however_they_are_written(text, key):
    with pytest.raises(InputError, match=f"'{key}' is given twice"):
        parse_yaml(text, "a.yaml")


def test_equal_keys_of_two_mappings_and_a_number_beside_its_text_are_no_repetition():
    assert parse_yaml("a: {x: 1}\nb: {x: 1}\n1: {}\n'1': {}", "a.yaml") == {
        "a": {"x": 1},
        "b": {"x": 1},
        1: {},
        "1": {},
    }
    assert parse_json('[{"x": 1}, {"x": {"x": 2}}]', "a.json") == [{"x": 1}, {"x": {"x": 2}}]


@pytest.mark.parametrize(
    "text",
    ["{", "a: [1", "\t- a", "a: !!python/object/apply:os.getcwd []", "a: 2025-13-45", "? [a]\n: b"],
)
def test_what_is_no_yaml_is_told_on_one_line(text):
    with pytest.raises(DataError, match=r"^a\.yaml is not valid YAML: ") as caught:
        parse_yaml(text, "a.yaml", DataError)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "{", "{'a': 1}", "[1,]"])
def test_what_is_no_json_is_told_on_one_line(text):
    with pytest.raises(DataError, match=r"^a\.json is not valid JSON: ") as caught:
        parse_json(text, "a.json", DataError)
    assert "\n" not in str(caught.value)


def lists(levels):
    """A bomb: each level names the one before ten times."""
    lines = ["a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, levels)]
    return "\n".join(lines)


def merges(levels):
    """A bomb of merge keys: each level merges the one before twice."""
    lines = ["a0: &a0 {x: 1}"]
    lines += [f"a{n}: &a{n} {{<<: [*a{n - 1}, *a{n - 1}]}}" for n in range(1, levels)]
    return "\n".join(lines)


def ladder(levels):
    """Short and flat as it is written, and deep once aliases are followed."""
    return "\n".join(["a0: &a0 [1]", *(f"a{n}: &a{n} [*a{n - 1}]" for n in range(1, levels))])


BEYOND = {
    "a bomb of lists": (lists(9), "line 6: more than 250000 values, those of aliases"),
    "a bomb of merges": (merges(40), "line 16: more than 250000 values, those of aliases"),
    "a list in itself": ("a: &a\n- *a", r"line 2: \*a stands inside of what it names"),
    "nested lists": ("[" * 100_000, "line 1: lists and mappings are nested more than 100 deep"),
    "nested mappings": ("{a: " * 101, "line 1: lists and mappings are nested more than 100 deep"),
    "a ladder of aliases": (ladder(300), "line 100: lists and mappings are nested more than 100 deep"),
    "a long integer": ("a: 1\nb: " + "9" * 5000, "line 2: '9999.* is a number of more than 100 characters"),
    "a long hexadecimal": ("a: 0x" + "f" * 100_000, "line 1: '0xff.* is a number of more than 100 characters"),
    "a number of base 60": ("a: 1" + ":0" * 60_000, "line 1: '1:0:.* is a number of more than 100 characters"),
    "no number": ("a: 1\nb: .nan", "line 2: .nan is no finite number"),
    "infinity": ("a: -.inf", "line 1: -.inf is no finite number"),
    "too large a number": ("a: 1.0e+999", r"line 1: 1\.0e\+999 is no finite number"),
    "many values": ("[" + "1," * 250_001 + "1]", "line 1: more than 250000 values"),
    "much text": ("a: " + "b" * (4 << 20), "more than 4 MiB of YAML"),
}
BEYOND_JSON = {
    "nested lists": ("[" * 100_000, "nested more than 100 deep"),
    "nested a little": ("[" * 101 + "]" * 101, "nested more than 100 deep"),
    "nested mappings": ('{"a": ' * 101 + "1" + "}" * 101, "nested more than 100 deep"),
    "a long integer": ('{"a": 1,\n"b": ' + "9" * 5000 + "}", "line 2: '9999.* is a number of more than 100 characters"),
    "no number": ('{"a": 1,\n"b": NaN}', "line 2: NaN is no finite number"),
    "infinity": ("[-Infinity]", "line 1: -Infinity is no finite number"),
    "too large a number": ("[1e999]", "line 1: 1e999 is no finite number"),
    "many values": ("[" + "[]," * 5_000_001 + "[]]", "more than 10000000 values"),
}


@pytest.mark.parametrize("name", BEYOND)
@pytest.mark.timeout(30)
def test_yaml_beyond_its_bounds_is_told_on_one_short_line(name):
    text, told = BEYOND[name]
    with pytest.raises(DataError, match=rf"^a\.yaml: {told}") as caught:
        parse_yaml(text, "a.yaml", DataError)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("name", BEYOND_JSON)
def test_json_beyond_its_bounds_is_told_on_one_short_line(name):
    text, told = BEYOND_JSON[name]
    with pytest.raises(DataError, match=rf"^a\.json: .*{told}") as caught:
        parse_json(text, "a.json", DataError)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 200


def test_what_is_just_within_the_bounds_is_read():
    assert parse_yaml("[" * 100 + "]" * 100, "a.yaml") == parse_json("[" * 100 + "]" * 100, "a.json")
    assert len(str(parse_yaml("9" * 100, "a.yaml"))) == len(str(parse_json("9" * 100, "a.json"))) == 100
    assert parse_yaml(lists(5), "a.yaml")["a4"][9][9][9][9] == [1] * 10
    assert parse_yaml(ladder(99), "a.yaml")["a1"] == [[1]]
    assert parse_yaml("a: 1.0e+300\nb: 1e999", "a.yaml") == {"a": 1e300, "b": "1e999"}  # YAML 1.1: text


def test_a_file_is_not_read_beyond_its_bound(tmp_path):
    """A sparse file of 1 TB: nobody may try to hold it."""
    with (tmp_path / "params.yaml").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(InputError, match=r"^params\.yaml has more than 4 MiB, the limit of such a file"):
        load_settings(tmp_path)
    with (tmp_path / "card.json").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(DataError, match=r"card\.json has more than 128 MiB"):
        read_card(tmp_path)


def test_a_long_json_with_a_repeated_key_is_not_read_again_for_its_lines():
    text = '{"a": 1, "pad": "' + "x" * (1 << 20) + '",\n"a": 2}'
    with pytest.raises(InputError, match=r"^a\.json: 'a' is given twice: keep one of them$"):
        parse_json(text, "a.json")


def bomb():
    """What an alias bomb unfolds to: 10^12 values in 12 lists."""
    value = [1] * 10
    for _ in range(11):
        value = [value] * 10
    return value


def test_a_message_looks_at_no_more_of_a_value_than_it_shows():
    itself = []
    itself.append(itself)
    deep = []
    for _ in range(100_000):
        deep = [deep]
    assert shown(bomb(), 20) == "[" * 12 + "1, 1, 1," + "..."
    assert shown({"a": bomb()}, 8) == "{'a': [[..."
    assert shown(itself) == shown(deep) == "[" * 120 + "..."
    assert shown("x" * 10**7, 9) == "'xxxxxxxx..."
    assert shown(1 << 100_000) == "an integer of 100001 bits"
    for value in ("a'b", b"a", [], {}, (), (1,), [1, ("a", {"b": [None, 1.5, True]})], {1: 2, "c": {3}}, "\ud800"):
        assert shown(value) == ascii(value)


def test_a_repeated_key_of_json_that_yaml_cannot_read_is_told_without_lines():
    with pytest.raises(InputError, match=r"^a\.json: 'a' is given twice: keep one of them$"):
        parse_json('{"a"\n: 1,\n"a": 2}', "a.json")


def test_a_file_that_is_no_text_is_told(tmp_path):
    (tmp_path / "a.yaml").write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match=r"a\.yaml is not valid YAML: 'utf-8' codec"):
        read_yaml(tmp_path / "a.yaml")


def test_the_repositorys_own_files_repeat_no_key(tmp_path):
    declared = ["params.yaml", "dvc.yaml", "data.dvc", *(REPOSITORY / "registry").rglob("*.yaml")]
    assert all(read_yaml(REPOSITORY / name) for name in declared)
    trainings = read_trainings(REPOSITORY / "registry" / "trainings.yaml")
    assert trainings["resnet18.harmonized"].train["learning_rate"] == 0.2  # its block says anew what another gave
    assert trainings["resnet18_l2_eps0.5"].train["learning_rate"] == 0.1


def test_no_other_file_of_the_package_reads_json_or_csv_from_outside():
    """YAML is guarded by .importlinter: only strict_files.py imports it."""
    package, found = Path(provenance.__file__).parent, set()
    for file in sorted(package.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Attribute) and (
                ast.unparse(node) in ("json.load", "json.loads", "csv.reader", "csv.DictReader", "pd.read_json")
                or node.attr in ("read_csv", "model_validate_json", "model_validate_strings")
            ):
                found.add((file.relative_to(package).as_posix(), ast.unparse(node)))
    assert found - {("strict_files.py", "json.loads"), ("strict_csv.py", "csv.reader")} == {
        ("evaluation/protocols.py", "json.loads"),  # what this process wrote into a Spec
        ("data/results.py", "json.loads"),  # what `write_kept` wrote into a sealed file
        ("analysis/report.py", "json.loads"),  # what the drawing library wrote just now
        ("analysis/comparison_files.py", "pd.read_csv"),  # zoo.csv, which this program wrote
        ("data/imports/_click_tables.py", "csv.reader"),  # a header of bounded length, to tell what is wrong with it
    }
