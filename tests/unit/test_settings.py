"""params.yaml: what is read from it, what is refused and in which words, and the identity of values."""

import json
import re
from hashlib import sha256

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from advalign.errors import InputError
from advalign.settings import Settings, Training, TrainSettings, load_settings
from advalign.strict_settings import Strict, digest, parse
from tests.conftest import REPOSITORY


@pytest.fixture
def values():
    return yaml.safe_load((REPOSITORY / "params.yaml").read_text())


def load_from(folder, values):
    (folder / "params.yaml").write_text(values if isinstance(values, str) else yaml.safe_dump(values))
    return load_settings(folder)


def message(folder, values):
    with pytest.raises(InputError) as caught:
        load_from(folder, values)
    text = str(caught.value)
    assert "\n" not in text
    assert caught.value.exit_code == 2
    return text


def change(values, path, value):
    *folders, last = path.split("/")
    for folder in folders:
        values = values[folder]
    values[last] = value


def test_the_repositorys_own_params_load_with_the_values_that_stand_there(values):
    settings = load_settings(REPOSITORY)
    assert settings.seed == values["seed"]
    for section in ("stimuli", "train", "compare"):
        read = getattr(settings, section).model_dump()
        assert values[section] == {key: read[key] for key in values[section]}
    assert settings.recipes == values["recipes"]
    assert set(settings.trainings) == set(values["trainings"])
    for name, training in values["trainings"].items():
        assert settings.trainings[name] == Training(**training)
    assert settings.evaluate.metrics == tuple(values["evaluate"]["metrics"])
    assert all(isinstance(item, float) for item in (settings.train.learning_rate, settings.stimuli.crop))


def test_what_is_left_out_takes_the_papers_value(tmp_path, values):
    values["stimuli"], values["train"] = {}, {}
    settings = load_from(tmp_path, values)
    assert (settings.stimuli.split, settings.stimuli.size, settings.stimuli.crop) == ("test", 224, 0.875)
    assert (settings.stimuli.categories_per_superclass, settings.stimuli.images_per_category) == (20, 4)
    assert settings.train.clip_norm == 2.0


@pytest.mark.parametrize(
    ("path", "near"),
    [
        ("stimulus", "stimuli"),
        ("sed", "seed"),
        ("stimuli/croop", "crop"),
        ("train/learning_rat", "learning_rate"),
        ("evaluate/shardsize", "shard_size"),
        ("compare/bootstraps", "bootstrap"),
        ("trainings/test_resnet.baseline/recipy", "recipe"),
    ],
)
def test_unknown_key_at_any_level_offers_the_near_one(tmp_path, values, path, near):
    change(values, path, 1)
    found = message(tmp_path, values)
    assert found.startswith(f"params.yaml: unknown key {path.split('/')[-1]!r}")
    assert f"did you mean {near!r}" in found


def test_a_key_like_no_other_lists_the_known_ones(tmp_path, values):
    change(values, "compare/zzzzzz", 1)
    found = message(tmp_path, values)
    assert found.startswith("params.yaml: unknown key 'zzzzzz'")
    assert found.endswith("(known: bootstrap)")


@pytest.mark.parametrize(
    ("path", "value", "wanted", "got"),
    [
        ("train/epochs", "many", "valid integer", "'many'"),
        ("train/epochs", 0, "greater than or equal to 1", "0"),
        ("train/epochs", 1.5, "valid integer", "1.5"),
        ("train/epochs", True, "integer", "True"),
        ("train/batch_size", 0, "greater than or equal to 1", "0"),
        ("train/learning_rate", 0, "greater than 0", "0"),
        ("train/warmup", 1.0, "less than 1", "1.0"),
        ("train/blur_maps", 3, "boolean", "3"),
        ("stimuli/crop", 1.01, "less than or equal to 1", "1.01"),
        ("stimuli/size", 8, "greater than or equal to 16", "8"),
        ("stimuli/split", "tests", "'train', 'val', 'test' or 'imagenet'", "'tests'"),
        ("evaluate/metrics", "perturbation-tolerance", "list", "'perturbation-tolerance'"),
        ("evaluate/protocol", 7, "string", "7"),
        ("compare/bootstrap", 99, "greater than or equal to 100", "99"),
        ("seed", -1, "greater than or equal to 0", "-1"),
        ("recipes", ["baseline"], "dictionary", "['baseline']"),
        ("train", None, "dictionary", "None"),
        ("trainings/test_resnet.baseline/model", 5, "string", "5"),
    ],
)
def test_wrong_type_or_range_names_key_wish_and_what_was_got(tmp_path, values, path, value, wanted, got):
    change(values, path, value)
    found = message(tmp_path, values)
    assert found.startswith(f"params.yaml: {path.replace('/', '.')}: ")
    assert wanted in found
    assert found.endswith(f"got {got}")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_no_setting_is_infinite(tmp_path, values, value):
    change(values, "train/learning_rate", value)
    assert re.fullmatch(rf"params\.yaml: line \d+: .{value} is no finite number: .*", message(tmp_path, values))
    with pytest.raises(InputError, match=f"^train: learning_rate: .*finite number, got {value}$"):
        parse(TrainSettings, values["train"], "train")


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("window", 22, "window 22 is even"),
        ("window", 65, "window 65 is wider than the image, which resize makes 64 pixels"),
        ("max_clicks", 2, "max_clicks 2 must be above min_clicks 2"),
    ],
)
def test_settings_of_human_maps_that_contradict_each_other(tmp_path, values, path, value, said):
    change(values, f"human_maps/{path}", value)
    assert said in message(tmp_path, values)


def test_missing_section_is_named(tmp_path, values):
    del values["evaluate"]
    assert message(tmp_path, values) == "params.yaml: evaluate: field required"


def test_missing_file_and_broken_yaml_are_one_line(tmp_path):
    with pytest.raises(InputError, match=r"params\.yaml does not exist: run inside a project"):
        load_settings(tmp_path)
    assert message(tmp_path, "seed: [1, 2\ntrain: }").startswith("params.yaml is not valid YAML: ")
    assert "dictionary" in message(tmp_path, "")
    assert "dictionary" in message(tmp_path, "- 1\n- 2\n")


def test_settings_are_frozen():
    settings = load_settings(REPOSITORY)
    for holder, key in ((settings, "seed"), (settings.train, "epochs"), (settings.stimuli, "size")):
        with pytest.raises(ValidationError, match="frozen"):
            setattr(holder, key, 3)


def test_source_and_own_class_appear_in_the_message():
    class Own(Strict):
        steps: int = 3

    assert parse(Own, {"steps": 4}, "x") == Own(steps=4)
    with pytest.raises(InputError, match=r"^params\.yaml: recipes\.robust: unknown key 'step'.* 'steps'\?"):
        parse(Own, {"step": 4}, "params.yaml: recipes.robust")


def test_digest_is_the_sha256_of_canonical_json():
    assert digest({"b": 1, "a": [1.5, None]}) == sha256(b'{"a": [1.5, null], "b": 1}').hexdigest()
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
    assert digest([1, 2]) != digest([2, 1])
    settings = load_settings(REPOSITORY)
    assert digest(settings) == digest(settings.model_dump(mode="json")) == digest(load_settings(REPOSITORY))


def leaves(values, path=()):
    if isinstance(values, dict) and values:
        for key, value in values.items():
            yield from leaves(value, (*path, key))
    else:
        yield path, values


def test_digest_notices_a_change_of_any_single_value(values):
    plain = Settings(**values).model_dump(mode="json")
    before, found = digest(plain), set()
    for path, value in leaves(plain):
        changed = json.loads(json.dumps(plain))
        holder = changed
        for key in path[:-1]:
            holder = holder[key]
        holder[path[-1]] = [value]
        found.add(digest(changed))
    assert len(found) == len(list(leaves(plain))) > 40
    assert before not in found


@given(st.recursive(st.integers() | st.text() | st.booleans() | st.none(), lambda inner: st.lists(inner), max_leaves=8))
def test_digest_depends_on_nothing_but_the_value(value):
    assert digest({"x": value, "y": 1}) == digest(dict(reversed({"x": value, "y": 1}.items())))
    assert digest({"x": value}) != digest({"x": [value]})


def test_the_docs_list_every_key_of_train():
    table = (REPOSITORY / "docs/training.md").read_text().split("## Keys")[1]
    rows = {
        name: (default, said) for name, default, said in re.findall(r"^\| `(\w+)` \| (\S+) \| (.*) \|$", table, re.M)
    }
    assert list(rows) == list(TrainSettings.model_fields)
    for name, field in TrainSettings.model_fields.items():
        assert yaml.safe_load(rows[name][0]) == field.default, name
        assert rows[name][1] == (field.description or ""), name
