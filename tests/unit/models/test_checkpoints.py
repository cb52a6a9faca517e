"""Checkpoints: what is read back is what was written, and whatever else lies there is refused in one line."""

import os
import pickle
import shutil

import pytest
import torch

from advalign.errors import DataError, InputError
from advalign.files import sha256
from advalign.models.checkpoints import CARD, WEIGHTS, load_checkpoint, read_card, save_checkpoint
from advalign.models.zoo import create_classifier
from tests.conftest import edit_card
from tests.trap import Trap

torch.set_num_threads(1)


def card(architecture="test_resnet", **changes):
    """The fields of a card that the caller of save_checkpoint gives."""
    return {
        "name": f"{architecture}.baseline",
        "architecture": architecture,
        "arguments": {},
        "classes": [{"wnid": f"n{index:08}", "name": f"class {index}", "decision": index % 2} for index in range(5)],
        "decisions": ("inanimate", "animate"),
        "recipe": "baseline",
        "settings": {"train": {"epochs": 1}},
        "seed": 0,
        "inputs_sha256": "00",
        "data_md5": None,
        "metrics": {"val_accuracy": 0.5},
    } | changes  # fmt: skip


def classifier(architecture="test_resnet", **arguments):
    """A net with running statistics that are not the initial ones."""
    made = create_classifier(architecture, 5, 32, seed=3, arguments=arguments)
    made.train()(torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(9)))
    return made.eval()


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoints") / "test_resnet.baseline"
    save_checkpoint(folder, classifier(), card())
    return folder


@pytest.fixture
def folder(written, tmp_path):
    """A copy that a test may spoil."""
    return shutil.copytree(written, tmp_path / "copy")


def refused(folder, error, says):
    with pytest.raises(error, match=says) as caught:
        load_checkpoint(folder)
    assert "\n" not in str(caught.value)
    assert str(folder) in str(caught.value)


@pytest.mark.parametrize("architecture", ["test_resnet", "test_vit", "mobilenetv3_small_050"])
def test_logits_survive_the_round_trip_to_the_bit(architecture, tmp_path):
    before = classifier(architecture)
    saved = save_checkpoint(tmp_path / "c", before, card(architecture))
    after, loaded = load_checkpoint(tmp_path / "c")
    images = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        assert torch.equal(after(images), before(images))
        assert torch.equal(after(images.repeat(1, 1, 2, 2)), before(images.repeat(1, 1, 2, 2)))  # resized inside
    assert not any(module.training for module in after.modules())
    assert loaded == saved
    assert after.preprocessing == before.preprocessing
    assert loaded.group_of_class == [0, 1, 0, 1, 0]


def test_a_twice_differentiable_net_is_the_same_net_on_disk(tmp_path):
    swapped = create_classifier("mobilenetv3_small_050", 5, 32, seed=3, twice_differentiable=True).eval()
    save_checkpoint(tmp_path / "c", swapped, card("mobilenetv3_small_050"))
    images = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(load_checkpoint(tmp_path / "c")[0](images), swapped(images), rtol=0, atol=1e-6)


def test_arguments_of_the_architecture_travel_in_the_card(tmp_path):
    save_checkpoint(tmp_path / "c", classifier("test_vit", patch_size=8), card("test_vit", arguments={"patch_size": 8}))
    assert load_checkpoint(tmp_path / "c")[0].network.patch_embed.grid_size == (4, 4)


def test_saving_again_replaces_and_leaves_nothing_behind(folder):
    other = create_classifier("test_resnet", 5, 32, seed=4).eval()
    save_checkpoint(folder, other, card(seed=4))
    after, loaded = load_checkpoint(folder)
    images = torch.rand(2, 3, 32, 32)
    assert torch.equal(after(images), other(images))
    assert loaded.seed == 4
    assert {path.name for path in folder.iterdir()} == {WEIGHTS, CARD}


def test_a_save_that_fails_leaves_no_card_that_names_other_weights(folder):
    with pytest.raises(Exception, match="seed"):
        save_checkpoint(folder, classifier(), card(seed="not a number"))
    with pytest.raises(DataError, match="no card"):
        load_checkpoint(folder)


def test_the_cards_digest_is_that_of_the_file(written):
    assert read_card(written).weights_sha256 == sha256(written / WEIGHTS)


@pytest.mark.parametrize("position", [100, -1])
def test_one_changed_byte_is_noticed(folder, position):
    content = bytearray((folder / WEIGHTS).read_bytes())
    content[position] ^= 1
    (folder / WEIGHTS).write_bytes(content)
    refused(folder, DataError, "changed or damaged")


def test_truncated_weights_are_noticed(folder):
    os.truncate(folder / WEIGHTS, 1000)
    refused(folder, DataError, "changed or damaged")
    edit_card(folder, weights_sha256=sha256(folder / WEIGHTS))  # and even where the digest was made to match
    refused(folder, DataError, "test_resnet")


@pytest.mark.parametrize(("name", "says"), [(WEIGHTS, "model.safetensors is missing"), (CARD, "no card.json")])
def test_a_missing_file_is_named(folder, name, says):
    (folder / name).unlink()
    refused(folder, DataError, says)


def test_a_folder_that_does_not_exist_is_named(tmp_path):
    refused(tmp_path / "nothing", DataError, "not a checkpoint")


@pytest.mark.parametrize(
    ("content", "says"),
    [(b"{", "not valid JSON"), (b"", "not valid JSON"), (b"[]", "card.json"), (b"\xff\xfe\x00", "card.json")],
)
def test_a_card_that_is_none_is_refused(folder, content, says):
    (folder / CARD).write_bytes(content)
    refused(folder, InputError, says)


def test_an_unknown_key_of_the_card_is_refused_with_the_nearest(folder):
    edit_card(folder, licence="MIT")
    refused(folder, InputError, "'licence'.*'license'")


def test_a_missing_key_and_a_wrong_type_are_named(folder):
    edit_card(folder, seed="zero")
    refused(folder, InputError, "seed.*got 'zero'")
    edit_card(folder, remove=("seed",))
    refused(folder, InputError, "seed: field required")


@pytest.mark.parametrize("architecture", ["test_vit", "test_efficientnet"])
def test_weights_of_another_architecture_are_refused(folder, architecture):
    edit_card(folder, architecture=architecture)
    refused(folder, DataError, f"does not fit architecture '{architecture}'")


def test_another_number_of_classes_is_refused(folder):
    edit_card(folder, classes=card()["classes"][:4])
    refused(folder, DataError, "does not fit")


def test_an_unknown_architecture_is_refused(folder):
    edit_card(folder, architecture="test_resnett")
    with pytest.raises(InputError, match="did you mean 'test_resnet'"):
        load_checkpoint(folder)


@pytest.mark.parametrize("kind", ["state", "trap"])
def test_a_pickle_under_the_weights_name_is_refused_even_where_the_digest_matches(folder, tmp_path, kind):
    trapped = tmp_path / "unpickled"
    torch.save(classifier().network.state_dict() if kind == "state" else Trap(trapped), folder / WEIGHTS)
    edit_card(folder, weights_sha256=sha256(folder / WEIGHTS))
    refused(folder, DataError, "does not fit|safetensors")
    assert not trapped.exists()


def test_a_plain_pickle_is_refused_too(folder, tmp_path):
    trapped = tmp_path / "unpickled"
    (folder / WEIGHTS).write_bytes(pickle.dumps(Trap(trapped)))
    edit_card(folder, weights_sha256=sha256(folder / WEIGHTS))
    refused(folder, DataError, "safetensors")
    assert not trapped.exists()


@pytest.mark.parametrize("exists", [True, False])
def test_a_card_cannot_make_timm_open_another_file(folder, tmp_path, exists):
    """timm's create_model takes checkpoint_path among its keyword arguments: a card must not reach it."""
    trapped, foreign = tmp_path / "unpickled", tmp_path / "foreign.pth"
    if exists:
        torch.save(Trap(trapped), foreign)
    edit_card(folder, arguments={"checkpoint_path": str(foreign)})
    with pytest.raises(InputError) as caught:
        load_checkpoint(folder)
    assert "\n" not in str(caught.value)
    assert not trapped.exists()
