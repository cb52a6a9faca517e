"""Which device a process takes, and a world of one."""

import pytest
import torch

from advalign.errors import InputError
from advalign.training import world as module
from advalign.training.world import World, choose_device, is_first, joined


@pytest.fixture
def gpus(monkeypatch):
    """As if there were GPUs: what is chosen can be used, and PyTorch's own check of an index is asked."""
    made = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(module, "choose_device", lambda name: torch.device("cuda" if name == "auto" else name))
    index = torch.cuda._utils._get_device_index
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: made.append(index(device)))
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    return made


@pytest.mark.parametrize(("name", "current"), [("auto", []), ("cuda", []), ("cuda:1", [1]), ("cpu", [])])
def test_one_process_takes_the_current_gpu_or_the_one_that_is_named(gpus, name, current):
    with joined(name) as world:
        assert world.share.device == torch.device("cuda" if name == "auto" else name)
        assert world.alone
        assert world.first
    assert gpus == current


def test_a_device_that_is_not_here_is_one_line():
    with pytest.raises(InputError, match=r"device 'nonsense' cannot be used here: [^\n]*$"):
        choose_device("nonsense")
    assert choose_device("cpu") == torch.device("cpu")


def test_a_world_of_one_hands_back_what_it_gets(monkeypatch):
    monkeypatch.delenv("RANK", raising=False)
    world = World()
    assert is_first()
    assert world.from_first(lambda: "made") == "made"
    assert world.from_first_alone(lambda: iter([1, 2])) == [1, 2]
    assert world.any(False, True) == [False, True]
    assert world.total(2, 0.5) == [2, 0.5]
    assert world.all("own") == ["own"]
