"""Processes that decode: they end with their epoch, and one that dies ends the training with a line."""

import multiprocessing
import time
from dataclasses import replace

import pytest

from advalign.data.batches import Share, decoding
from advalign.errors import AdvalignError
from tests.tiny_training import data, fit

LINE = r"\Aa process that decodes images ended \(DataLoader worker \(pid.*\): lower train\.workers\Z"


def with_workers(found, count=2):
    return replace(found, settings=found.settings.model_copy(update={"workers": count}))


@pytest.fixture
def started():
    """Lists the processes that this test started: tests of team keep some of theirs in this process."""
    before = multiprocessing.active_children()
    return lambda: [process for process in multiprocessing.active_children() if process not in before]


def kill(process):
    """PyTorch raises where the main thread is: here, before what is decoded already lets the epoch end."""
    process.kill()
    for _ in range(500):
        time.sleep(0.01)


def test_one_that_dies_while_the_training_computes_is_a_line(started):
    batches = with_workers(data()).epoch(0, 0, Share())
    with pytest.raises(AdvalignError, match=LINE), decoding():
        next(batches)
        kill(started()[0])
    batches.close()


def test_one_that_dies_in_a_training_ends_it_with_a_line(tmp_path, started):
    trained = fit(tmp_path, epochs=2)
    trained.data = with_workers(trained.data)

    class Killer:
        def on_step(self, position):
            if position.step == 1:
                kill(started()[0])

        def on_epoch(self, row):
            raise AssertionError("it went on")

        on_report = on_pictures = on_epoch

    with pytest.raises(AdvalignError, match=LINE):
        trained.run([Killer()])


def test_those_of_an_epoch_have_ended_before_the_validation_begins(tmp_path, started):
    trained, alive = fit(tmp_path, epochs=2), []
    trained.data = with_workers(trained.data)
    plain = trained.validation

    class Looking:
        def __len__(self):
            return len(plain)

        def all(self, share):
            alive.append(len(started()))
            return plain.all(share)

    trained.validation = Looking()
    trained.run([])
    assert alive == [0, 0]
