"""Tensors from worker processes arrive wherever TMPDIR is; an address of a socket has at most 107 characters."""

import multiprocessing
import subprocess
import sys
from dataclasses import replace

import pytest

from advalign.data.batches import Share
from tests.tiny_training import data

SEND = """
import sys, tempfile
import torch
from advalign.processes import place_sockets

def made(number):
    return torch.full((3,), float(number))

if __name__ == "__main__":
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context
    place_sockets()
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        print(pool.submit(made, 7).result().tolist(), tempfile.gettempdir())
"""


@pytest.mark.slow
@pytest.mark.parametrize("depth", [0, 3])
def test_tensors_arrive_from_workers_under_a_long_tmpdir(tmp_path, monkeypatch, depth):
    folder = tmp_path.joinpath(*["x" * 60] * depth)
    folder.mkdir(parents=True, exist_ok=True)
    script = tmp_path / "send.py"
    script.write_text(SEND)
    monkeypatch.setenv("TMPDIR", str(folder))
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("] ")[0] == "[7.0, 7.0, 7.0"
    assert done.stdout.split("] ")[1].strip() == str(folder)  # other files stay in TMPDIR


@pytest.mark.slow
@pytest.mark.timeout(120)  # a training would wait for ever
def test_the_processes_of_a_training_send_images_under_a_long_tmpdir(tmp_path, monkeypatch):
    folder = tmp_path.joinpath(*["x" * 60] * 3)
    folder.mkdir(parents=True)
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    monkeypatch.setitem(multiprocessing.current_process()._config, "tempdir", None)
    found = data()
    batches = replace(found, settings=found.settings.model_copy(update={"workers": 2})).epoch(0, 0, Share())
    assert next(batches).images.ndim == 4
    batches.close()
