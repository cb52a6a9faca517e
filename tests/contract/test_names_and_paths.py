"""Names, places and files from outside: what could leave the project or run code is refused, and nothing changes."""

import json
import os
import pickle
import shutil
import sys
from contextlib import chdir
from hashlib import sha256
from pathlib import Path
from unittest.mock import patch

import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st

import advalign
from advalign.analysis.comparison import compare_table
from advalign.analysis.table import check_table, read_table
from advalign.cli._output import print_table
from advalign.cli.main import run
from advalign.data.classes import DECISIONS
from advalign.data.imagenet import read_label_table
from advalign.data.multilabel import read_multilabel
from advalign.data.results import read_summaries
from advalign.errors import AdvalignError, InputError
from advalign.evaluation.protocols import protocol
from advalign.files import Project
from advalign.files import sha256 as digest_of
from advalign.models.checkpoints import CARD, WEIGHTS, ClassCard, read_card
from advalign.models.declared import ZooEntry, read_zoo
from advalign.models.fetched import FetchedModel
from advalign.models.published import convert_published, fetch_pretrained
from advalign.models.zoo import create_classifier, create_network
from advalign.names import Reference, check_alias, check_distinct, check_name, is_name, parse_reference
from advalign.settings import Training, load_settings
from advalign.tracking.registry.registered import CARD_TAG, WEIGHTS_TAG
from advalign.tracking.store import open_store
from advalign.training.plan import plan
from tests.conftest import REPOSITORY, edit_card, save_untrained, with_stimuli
from tests.trap import Trap

pytestmark = pytest.mark.xdist_group("names-and-paths")

BAD_NAMES = {
    "out of the folder": "../../../escaped",
    "the folder above": "..",
    "absolute": "/tmp/advalign-escaped",
    "of a folder": "a/b",
    "Windows folder": "a\\b",
    "Windows drive": "C:x",
    "Windows wildcard": "a?*",
    "empty": "",
    "blank": " ",
    "hidden": ".hidden",
    "an option": "-rf",
    "line feed": "a\nb",
    "trailing line feed": "resnet18\n",
    "NUL": "a\0b",
    "too long": "x" * 201,
    "quote": "x' OR name = 'y",
    "backtick": "x`y",
    "script": "<script>alert(1)</script>",
    "markup": "[/red]x",
    "formula": "$x$",
    "look-alike": "r\u0435snet18",  # a Cyrillic letter
    "digits of another script": "resnet\u0661\u0668",
    "escape sequence": "\x1b[31mred",
}


@pytest.fixture(scope="module")
def lab(sample_root, tmp_path_factory):
    """A folder with a project and, beside it, a checkpoint of the same classes that came from outside."""
    lab = tmp_path_factory.mktemp("lab")
    project = with_stimuli(sample_root, lab / "above" / "project")
    classes = len(yaml.safe_load((project.data / "classes.yaml").read_text()))
    save_untrained(project, "foreign", create_classifier("test_resnet", classes, 64, seed=0).eval())
    shutil.move(project.checkpoints / "foreign", lab / "foreign")
    project.checkpoints.rmdir()
    return lab


@pytest.fixture
def root(lab):
    return lab / "above" / "project"


@pytest.fixture
def foreign(lab, tmp_path):
    """A copy of the checkpoint that a test may spoil."""
    return shutil.copytree(lab / "foreign", tmp_path / "foreign")


def edit(folder, **changes):
    edit_card(folder, **changes)
    return folder


def snapshot(*folders):
    """Kind and content of all that lies in folders; locks, the database and remembered digests change."""
    found = {}
    for path in sorted(path for folder in folders for path in folder.rglob("*")):
        if path.is_symlink() or path.is_dir():
            found[path] = str(path.readlink()) if path.is_symlink() else "folder"
        elif not path.name.endswith((".lock", "mlflow.db", ".digests.db")):
            found[path] = sha256(path.read_bytes()).hexdigest()
    return found


def command(root, capsys, *words):
    """Run the command line in this process: exit code and lines of standard error."""
    environment = {name: value for name, value in os.environ.items() if name not in ("ADVALIGN_DEBUG",)}
    environment.pop("MLFLOW_TRACKING_URI", None)
    capsys.readouterr()
    with (
        chdir(root),
        patch.object(sys, "argv", ["advalign", *map(str, words)]),
        patch.dict(os.environ, environment, clear=True),
        pytest.raises(SystemExit) as ended,
    ):
        run()
    return ended.value.code, capsys.readouterr().err.splitlines()


def refused(lab, capsys, words, *told, beside=()):
    """A command that ends with 2 and one line that tells, and changes nothing in or above the project."""
    before = snapshot(lab, *beside)
    code, lines = command(lab / "above" / "project", capsys, *words)
    assert (code, len(lines)) == (2, 1), lines
    assert lines[0].startswith("advalign: error: ")
    assert lines[0].isprintable()
    assert len(lines[0]) < 1000
    for fragment in told:
        assert fragment in lines[0]
    assert snapshot(lab, *beside) == before


def one_line(error, *told):
    message = str(error)
    assert error.exit_code == 2
    assert "\n" not in message
    for fragment in told:
        assert fragment in message


def ascii_start(text):
    """How a message begins to show a text."""
    return ascii(text)[:50].rstrip("'")


# names


@pytest.mark.parametrize("kind", BAD_NAMES)
def test_a_name_that_is_a_path_or_breaks_out_of_quotes_is_none(kind):
    with pytest.raises(InputError) as caught:
        check_name(BAD_NAMES[kind])
    one_line(caught.value, ascii_start(BAD_NAMES[kind]), "rename it")


def test_all_published_names_are_names():
    zoo = read_zoo(REPOSITORY / "registry" / "zoo.yaml").models
    published = yaml.safe_load((REPOSITORY / "registry" / "published" / "feng2025.yaml").read_text())["models"]
    settings = load_settings(REPOSITORY)
    assert len(zoo) == 351
    assert len(settings.trainings) == 7
    for name in (*zoo, *published, *settings.trainings, "fmn-fast", "fmn-fast-thorough.first6", "x" * 200):
        assert check_name(name) == name


def test_names_that_differ_in_case_alone_are_one_file_on_many_disks():
    with pytest.raises(InputError) as caught:
        check_distinct(["resnet18", "ResNet18"], "zoo.yaml: models")
    one_line(caught.value, "zoo.yaml: models", "'resnet18' and 'ResNet18'", "rename one")


@pytest.mark.parametrize(
    "alias", ["", "latest", "Latest", "v1", "V23", "a.b", "a b", "a/b", "a\n", "é", "x" * 201, "v\u0661"]
)
def test_an_alias_that_mlflow_keeps_or_refuses_is_none(alias):
    with pytest.raises(InputError) as caught:
        check_alias(alias)
    one_line(caught.value, ascii_start(alias), "such as champion")


@pytest.mark.parametrize("alias", ["champion", "candidate", "previous", "v1a", "va", "1", "latest_one", "A-b_9"])
def test_an_alias_is_returned_as_it_is(alias):
    assert check_alias(alias) == alias


# references

NAMES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,30}", fullmatch=True)
ALIASES = st.from_regex(r"[A-Za-z_-][A-Za-z0-9_-]{0,30}", fullmatch=True).filter(
    lambda alias: alias.lower() != "latest" and not alias[1:].isdigit()
)
REFERENCES = st.one_of(
    st.builds(Reference, NAMES),
    st.builds(Reference, NAMES, alias=ALIASES),
    st.builds(Reference, NAMES, version=st.integers(1, 999_999_999)),
)


@given(REFERENCES)
def test_a_reference_is_read_as_it_is_written(reference):
    assert parse_reference(str(reference)) == reference
    if reference.alias or reference.version:
        assert parse_reference(reference.uri) == reference


@given(st.one_of(st.text(), st.from_regex(r"(models:/)?[\w./@:' \\-]{0,20}", fullmatch=True)))
def test_whatever_is_accepted_stays_in_its_folder_and_in_its_quotes(text):
    try:
        reference = parse_reference(text)
    except InputError as error:
        one_line(error)
        return
    assert not set(reference.name) & set("/\\'\"`<>&$ \0\n")
    runs = Project(Path("/project")).runs
    assert Path(os.path.normpath(runs / reference.name)).parent == runs
    assert text in (str(reference), f"models:/{reference}")


@given(st.text(st.sampled_from("ab./\\-_~ \0\n\u0435"), max_size=12))
def test_an_accepted_name_is_one_part_of_a_path(text):
    if is_name(text):
        assert Path(text).parts == (text,)
        assert Path(os.path.normpath(Path("/runs") / text)) == Path("/runs") / text


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "NAME@ALIAS"),
        ("models:/", "names no version"),
        ("models:/resnet18", "names no version"),
        ("models://resnet18/1", "no reference"),
        ("models:/resnet18/latest", "'latest' is no version"),
        ("resnet18/Production", "'Production' is no version"),
        ("resnet18/0", "'0' is no version"),
        ("resnet18/-1", "'-1' is no version"),
        ("resnet18/\u0661", "is no version"),
        ("resnet18/1/../2", "is no version"),
        ("resnet18/99999999999999999999", "is no version"),
        ("resnet18@", "'' cannot be an alias"),
        ("resnet18@a@b", "'a@b' cannot be an alias"),
        ("resnet18@latest", "'latest' cannot be an alias"),
        ("resnet18/1@champion", "no reference"),
        ("../resnet18/1", "no reference"),
        ("it's@champion", "no reference"),
        ("runs:/abc/model", "no reference"),
        ("s3://bucket/model", "no reference"),
    ],
)
def test_what_is_no_reference_is_refused_with_the_forms_there_are(text, told):
    with pytest.raises(InputError) as caught:
        parse_reference(text)
    one_line(caught.value, ascii(text)[1:-1], told)


def test_a_model_as_a_whole_has_no_uri():
    with pytest.raises(InputError, match="give resnet18@ALIAS or resnet18/VERSION"):
        _ = Reference("resnet18").uri


# names in files


@pytest.mark.parametrize("kind", BAD_NAMES)
def test_a_foreign_card_cannot_name_a_place(kind, foreign):
    kept = (foreign / CARD).read_text()
    for key in ("name", "architecture", "recipe"):
        (foreign / CARD).write_text(kept)
        edit(foreign, **{key: BAD_NAMES[kind]})
        with pytest.raises(InputError) as caught:
            read_card(foreign)
        rule = "a timm name, torchvision:NAME" if key == "architecture" else "1 to 200 ASCII letters"
        said = f"{foreign}/card.json: {key}: expected {rule}"
        one_line(caught.value, said, ascii_start(BAD_NAMES[kind]))


@pytest.mark.parametrize("kind", ["out of the folder", "absolute", "NUL", "too long", "quote", "markup", "line feed"])
def test_a_foreign_checkpoint_writes_nowhere(kind, lab, foreign, capsys):
    edit(foreign, name=BAD_NAMES[kind])
    told = (f"{foreign}/card.json: name: ", ascii_start(BAD_NAMES[kind]), "rename it")
    refused(lab, capsys, ["evaluate", foreign], *told, beside=[foreign.parent])


@pytest.mark.parametrize(
    "architecture", ["hf-hub:timm/resnet18.a1_in1k", "hf_hub:timm/x", "local-dir:OWN", "test_resnet.../../x"]
)
def test_an_architecture_fetches_and_reads_nothing(architecture, lab, foreign, capsys):
    (foreign / "config.json").write_text('{"architecture": "test_resnet"}')
    (foreign / "pytorch_model.bin").write_bytes(pickle.dumps(Trap(lab / "ran")))
    given_name = architecture.replace("OWN", str(foreign))
    edit(foreign, architecture=given_name)
    refused(lab, capsys, ["evaluate", foreign], "architecture", "rename it", beside=[foreign.parent])
    with pytest.raises(InputError):
        create_network(given_name, 5, 32)


@pytest.mark.parametrize("kind", BAD_NAMES)
def test_a_zoo_cannot_name_a_place(kind, tmp_path):
    name, file = BAD_NAMES[kind], tmp_path / "zoo.yaml"
    for models in ({name: {"group": "cnn"}}, {"net": {"group": "cnn", "architecture": name}}):
        file.write_text(yaml.safe_dump({"models": models}))
        with pytest.raises(InputError) as caught:
            read_zoo(file)
        one_line(caught.value, f"{file}: ", "models.", "rename it", ascii_start(name))


def test_a_foreign_zoo_writes_nowhere(lab, tmp_path, capsys):
    file = tmp_path / "zoo.yaml"
    file.write_text(yaml.safe_dump({"models": {"../../escaped": {"group": "cnn", "architecture": "test_resnet"}}}))
    refused(lab, capsys, ["evaluate", "--zoo", file], f"{file}: ", "'../../escaped'", beside=[tmp_path])


@pytest.mark.parametrize("kind", BAD_NAMES)
def test_params_cannot_name_a_place(kind, tmp_path):
    params = yaml.safe_load((REPOSITORY / "params.yaml").read_text())
    params["trainings"][BAD_NAMES[kind]] = {"model": "test_resnet", "recipe": "baseline"}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
    before = snapshot(tmp_path)
    with pytest.raises(InputError) as caught:
        load_settings(tmp_path)
    one_line(caught.value, "params.yaml: ", "trainings.", "rename it", ascii_start(BAD_NAMES[kind]))
    assert snapshot(tmp_path) == before


def test_two_trainings_or_models_of_a_name_but_for_case_are_refused(tmp_path):
    params = yaml.safe_load((REPOSITORY / "params.yaml").read_text())
    params["trainings"]["Test_ResNet.baseline"] = {"model": "test_resnet", "recipe": "baseline"}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
    with pytest.raises(InputError, match=r"params.yaml: trainings: .*differ only in upper and lower case"):
        load_settings(tmp_path)
    (tmp_path / "zoo.yaml").write_text("models: {net: {group: cnn}, Net: {group: cnn}}\n")
    with pytest.raises(InputError, match=r"zoo.yaml: models: 'net' and 'Net' differ"):
        read_zoo(tmp_path / "zoo.yaml")


@pytest.mark.parametrize("kind", BAD_NAMES)
def test_an_architecture_to_train_cannot_name_a_place(kind, root, lab):
    before = snapshot(lab)
    if is_name(f"{BAD_NAMES[kind]}.baseline"):  # "": as a file it would be hidden
        return
    with pytest.raises(InputError) as caught:
        plan(Project(root), load_settings(root), Training(model=BAD_NAMES[kind], recipe="baseline"))
    one_line(caught.value, "cannot name a")
    assert snapshot(lab) == before


@pytest.mark.parametrize("name", ["../..", "", "/etc", "fmn\0", "x" * 300])
def test_a_protocol_is_no_place(name, root):
    with pytest.raises(InputError) as caught:
        read_summaries(Project(root), name)
    one_line(caught.value, "cannot name a protocol")
    with pytest.raises(InputError):
        protocol(name)


@pytest.mark.parametrize("name", ["fmn-" + "9" * 5000, "fmn-\u0663", "fmn--1", "fmn-1e3"])
def test_a_budget_that_is_no_number_is_one_line(name):
    with pytest.raises(InputError) as caught:
        protocol(name)
    one_line(caught.value, "fmn-")


@pytest.mark.parametrize("name", ["../secret.JPEG", "/etc/passwd", "a/b.JPEG", "..", "a\0.JPEG", "", "a\\b.JPEG"])
def test_a_table_of_data_names_files_of_its_own_folder_only(name, tmp_path):
    multilabel = {"initial_annots": {name: {"correct": ["n01440764"]}}, "problematic_images": {}}
    (tmp_path / "multilabel.json").write_text(json.dumps(multilabel))
    with pytest.raises(InputError) as caught:
        read_multilabel(tmp_path / "multilabel.json", {"n01440764": 0})
    one_line(caught.value, str(tmp_path / "multilabel.json"), ascii(name), "fix or remove")
    if "\0" not in name:  # pandas ends a cell there
        (tmp_path / "labels.csv").write_text(f"image,wnid\n{name},n01440764\n")
        with pytest.raises(InputError) as caught:
            read_label_table(tmp_path / "labels.csv")
        one_line(caught.value, str(tmp_path / "labels.csv"), "fix or remove")


# clumsy files


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[" * 100_000, "nested more than 100 deep"),
        ('{"seed": ' + "9" * 5000 + "}", "is a number of more than 100 characters"),
        (b"\xff\xfe{}", "is not valid JSON"),
        ('"' + "x" * 100_000 + '"', "..."),
    ],
)
def test_a_card_that_is_none_is_one_short_line(text, told, lab, foreign, capsys):
    (foreign / CARD).write_bytes(text if isinstance(text, bytes) else text.encode())
    refused(lab, capsys, ["evaluate", foreign], f"{foreign}/card.json", told, beside=[foreign.parent])


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"classes": []}, "classes: "),
        ({"decisions": []}, "a class belongs to decision 1, there are 0"),
        ({"seed": "x" * 100_000}, "seed: "),
        *(
            ({"preprocessing": {"input_size": 64, "mean": [0.5] * 3, "std": [0.2] * 3} | change}, told)
            for change, told in [
                ({"input_size": 0}, "preprocessing.input_size"),
                ({"input_size": 10**12}, "preprocessing.input_size"),
                ({"std": [0.2, 0, 0.2]}, "preprocessing.std.1"),
                ({"crop": -1}, "preprocessing.crop"),
            ]
        ),
    ],
)
def test_a_card_that_cannot_be_computed_with_is_refused_before_anything_is_written(changes, told, lab, foreign, capsys):
    edit(foreign, **changes)
    refused(lab, capsys, ["evaluate", foreign], f"{foreign}/card.json: ", told, beside=[foreign.parent])


@pytest.mark.parametrize("text", [b"seed: 2024-13-45\n", b"seed: \xe9\n", b"seed: " + b"[" * 1200, b"seed: 0x_\n"])
def test_yaml_that_python_cannot_take_is_one_line(text, tmp_path):
    for file, read in (("params.yaml", load_settings), ("zoo.yaml", lambda folder: read_zoo(folder / "zoo.yaml"))):
        (tmp_path / file).write_bytes(text)
        with pytest.raises(InputError) as caught:
            read(tmp_path)
        one_line(caught.value, file)


@pytest.mark.parametrize("words", ["evaluate", "data import classes", "data import clickme", "data import imagenet"])
def test_what_no_file_system_takes_is_one_line(words, lab, capsys):
    refused(lab, capsys, [*words.split(), "x" * 5000], "xxx")


# what runs code


def trapped(lab, folder):
    """Files of weights that would run code, by name of file."""
    torch.save({"state_dict": {}, "args": Trap(lab / "ran")}, folder / "zip.pth")
    for name in ("plain.pth", "plain.ckpt", "plain.pt", "plain.safetensors"):
        (folder / name).write_bytes(pickle.dumps({"state_dict": Trap(lab / "ran")}))
    return sorted(path.name for path in folder.iterdir())


def test_the_trap_works(tmp_path):
    pickle.loads(pickle.dumps(Trap(tmp_path / "ran")))  # noqa: S301  what the tests below must never do
    assert (tmp_path / "ran").exists()


def model(lab, **entry):
    """A model of the zoo that is to be fetched into the project."""
    root = lab / "above" / "project"
    classes = tuple(ClassCard(wnid=f"n{index:08}", name=f"{index}", decision=index % 2) for index in range(5))
    said = ZooEntry(**{"group": "cnn", "architecture": "test_resnet", "preprocessing": {"input_size": 64}} | entry)
    weights = said.weights or "hub"
    return FetchedModel("net", said, weights, root / "outputs" / "zoo" / "net", root, classes, DECISIONS, advalign.load)


def refused_to_fetch(lab, entry, *told, beside):
    (lab / "above" / "project" / "outputs" / "zoo").mkdir(exist_ok=True)
    before = snapshot(lab, beside)
    with pytest.raises(AdvalignError) as caught:
        model(lab, **entry).fetch()
    one_line(caught.value, *told)
    assert snapshot(lab, beside) == before


@pytest.mark.parametrize("place", ["weights", "head"])
def test_weights_of_the_zoo_are_never_unpickled(place, lab, tmp_path):
    state = create_network("test_resnet", 5, 64).state_dict()
    headless = {name: value for name, value in state.items() if not name.startswith("fc.")}
    torch.save(headless, tmp_path / "good.pth")
    (tmp_path / "bad").mkdir()
    for name in trapped(lab, tmp_path / "bad"):
        bad = {place: str(tmp_path / "bad" / name)}
        entry = {"weights": str(tmp_path / "good.pth")} | bad
        refused_to_fetch(lab, entry, f"bad/{name}", beside=tmp_path)


ARGUMENTS = [
    {"checkpoint_path": "FILE"},
    {"pretrained": True},
    {"pretrained_cfg": {"file": "FILE", "num_classes": 5}},
    {"pretrained_cfg_overlay": {"file": "FILE", "custom_load": True}},
    {"pretrained_cfg_overlay": {"url": "file://FILE"}},
    {"pretrained_cfg_overlay": {"hf_hub_id": "somebody/something"}},
    {"pretrained_strict": False},
    {"cache_dir": "FOLDER/cache"},
    {"features_only": True},
]


@pytest.mark.parametrize("arguments", ARGUMENTS, ids=lambda arguments: next(iter(arguments)))
@pytest.mark.parametrize("name", ["zip.pth", "plain.pth"])
def test_arguments_of_an_architecture_read_and_fetch_nothing(arguments, name, lab, foreign, tmp_path):
    (tmp_path / "bad").mkdir()
    trapped(lab, tmp_path / "bad")
    text = json.dumps(arguments).replace("FILE", str(tmp_path / "bad" / name)).replace("FOLDER", str(tmp_path))
    filled = json.loads(text)
    edit(foreign, arguments=filled)
    before = snapshot(lab, tmp_path)
    for build in (
        lambda: create_network("test_resnet", 5, 64, filled),
        lambda: fetch_pretrained("test_resnet.r160_in1k", 64, filled, tmp_path),
        lambda: convert_published("test_resnet", 5, 64, filled, {}),
        lambda: advalign.load(str(foreign)),
        lambda: model(lab, arguments=filled, weights=str(foreign / WEIGHTS)).fetch(),
    ):
        with pytest.raises(InputError) as caught:
            build()
        one_line(caught.value, f"'{next(iter(filled))}' is no argument of the architecture", "take it out")
    after = snapshot(lab, tmp_path)
    after.pop(lab / "above" / "project" / "outputs" / "zoo", None)
    before.pop(lab / "above" / "project" / "outputs" / "zoo", None)
    assert after == before


def pickled_weights(lab, folder):
    """The checkpoint with a pickle under the name of its weights, and with the pickle's digest in its card."""
    (folder / WEIGHTS).write_bytes(pickle.dumps(Trap(lab / "ran")))
    return edit(folder, weights_sha256=digest_of(folder / WEIGHTS))


def test_a_foreign_checkpoint_is_never_unpickled(lab, foreign, capsys):
    pickled_weights(lab, foreign)
    (foreign / "python_model.pkl").write_bytes(pickle.dumps(Trap(lab / "ran")))
    with pytest.raises(InputError) as caught:
        advalign.load(str(foreign))
    one_line(caught.value, str(foreign / WEIGHTS))
    root = lab / "above" / "project"
    (root / "weights").mkdir()
    shutil.copytree(foreign, root / "weights" / "net")
    try:
        classes = json.loads((foreign / CARD).read_text())["classes"]
        source = model(lab, weights="weights", architecture=None, preprocessing={})
        object.__setattr__(source, "classes", tuple(ClassCard(**one) for one in classes))
        before = snapshot(lab)
        with pytest.raises(InputError) as caught:
            source.fetch()
        one_line(caught.value, f"weights/net/{WEIGHTS}")
        assert snapshot(lab) == before
    finally:
        shutil.rmtree(root / "weights")


FLAVOR = """\
flavors:
  python_function: {loader_module: mlflow.pyfunc.model, python_model: python_model.pkl, cloudpickle_version: 3.1.1}
"""


def register(root, name, folder, vouched=False):
    """Register a folder as it is as a version, as anybody with access to a store can; `vouched`: with its digests."""
    store = open_store(Project(root))
    made = store.client.create_run(store.experiment_ids["train"])
    store.client.log_artifacts(made.info.run_id, str(folder), "model")
    store.client.create_registered_model(name)
    source = f"{made.info.artifact_uri}/model"
    files = {WEIGHTS_TAG: WEIGHTS, CARD_TAG: CARD} if vouched else {}
    tags = {tag: digest_of(folder / "artifacts" / "checkpoint" / file) for tag, file in files.items()}
    store.client.create_model_version(name, source, made.info.run_id, tags=tags)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "with_checkpoint", "vouched", "told"),
    [
        ("pickle.only", False, False, "pickle.only"),
        ("pickle.beside", True, False, "this advalign did not register it"),
        ("pickle.vouched", True, True, WEIGHTS),
    ],
)
def test_a_registered_version_is_never_unpickled(
    lab, foreign, tmp_path, capsys, monkeypatch, name, with_checkpoint, vouched, told
):
    root = shutil.copytree(lab / "above" / "project", tmp_path / "project")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    made = tmp_path / name
    made.mkdir()
    (made / "MLmodel").write_text(FLAVOR)
    (made / "python_model.pkl").write_bytes(pickle.dumps(Trap(lab / "ran")))
    (made / "loader.py").write_text(f"from pathlib import Path\nPath({str(lab / 'ran')!r}).touch()\n")
    if with_checkpoint:
        shutil.copytree(pickled_weights(lab, foreign), made / "artifacts" / "checkpoint")
    register(root, name, made, vouched)
    with chdir(root), pytest.raises(InputError) as caught:
        advalign.load(f"models:/{name}/1")
    one_line(caught.value, told)
    code, lines = command(root, capsys, "evaluate", f"models:/{name}/1", "--workers", 1)
    assert code == (1 if vouched else 2)  # a model whose weights cannot be read is recorded as a failure
    assert any(told in line for line in lines) or vouched
    assert not (lab / "ran").exists()


@pytest.mark.parametrize(
    "uri", ["models:/../x/1", "models:/x'@champion", "models:/x", "models:/x@latest", "models:/m-1/../2"]
)
def test_a_uri_that_is_none_never_reaches_the_store(uri, lab, root):
    before = snapshot(lab)
    with chdir(root), pytest.raises(InputError) as caught:
        advalign.load(uri)
    one_line(caught.value, ascii(uri)[1:-1])
    assert snapshot(lab) == before
    assert not (root / "mlflow.db").exists()


# symbolic links


def test_a_link_in_a_foreign_checkpoint_is_read_and_never_written_through(lab, foreign, tmp_path, capsys):
    secret = tmp_path / "secret.txt"
    secret.write_text("not weights")
    (foreign / WEIGHTS).unlink()
    (foreign / WEIGHTS).symlink_to(secret)
    before = snapshot(lab, tmp_path)
    with pytest.raises(InputError) as caught:
        advalign.load(str(foreign))
    one_line(caught.value, "SHA-256")
    assert "not weights" not in str(caught.value)
    assert snapshot(lab, tmp_path) == before


# what is shown


def test_names_of_a_foreign_table_are_text_in_figures_report_and_terminal(tmp_path, capsys):
    names = ["$a_$", r"$\frac$", "</script><img src=x onerror=alert(1)>", "{{7*7}}", "[/red]", "../../x", "=1+1"]
    rows = [f'"{name}",{1 + number / 7},0.3,cnn,0,{0.6 + number / 70}\n' for number, name in enumerate(names)]
    (tmp_path / "t.csv").write_text("model,pt,aa,group,big_data,multilabel_accuracy\n" + "".join(rows))
    result = compare_table(read_table(tmp_path / "t.csv"), tmp_path / "out", "t.csv")
    report = (tmp_path / "out" / "report.html").read_text()
    shown = report[report.index("const DATA") :]
    assert "<img src=x" not in report
    assert r"\u003c/script>\u003cimg src=x onerror=alert(1)>" in shown
    assert "{{7*7}}" in shown
    assert {path.name for path in tmp_path.iterdir()} == {"t.csv", "out"}
    capsys.readouterr()
    print_table([{"model": name} for name in [*names, ":smile:", "\x1b[31mred"]], ["model"])
    printed = capsys.readouterr().out
    for name in (*names, ":smile:", r"\x1b[31mred"):
        assert name in printed
    assert result["pareto"]
    assert len(check_table(read_table(tmp_path / "t.csv"), "t.csv")) == len(names)
