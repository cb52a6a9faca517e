"""Train, register, promote, serve, ask over HTTP: the answer is the training process's own, to 1e-5."""

import base64
import contextlib
import errno
import io
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from advalign.files import Project
from advalign.models.zoo import evaluation_transform
from advalign.settings import Training, load_settings
from advalign.training import train as training
from advalign.training.plan import plan
from tests.pipeline.conftest import REPOSITORY, TRAININGS, environment, program

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("pipeline")]

NAME = TRAININGS[1]
PAGE = REPOSITORY / "docs" / "serving.md"


def as_pixels(image):
    return np.asarray(image).transpose(2, 0, 1).astype(np.float32) / 255


@pytest.fixture(scope="module")
def trained(reproduced, tmp_path_factory):
    """A training in this process on the small project's data, registered, with alias `champion`.

    Attributes:
        logits: what the live network says of `images` before anything is written to disk.
        documented: what it says of the image that the documentation sends.
    """
    root = tmp_path_factory.mktemp("serve") / "project"
    left_out = shutil.ignore_patterns("mlflow.db", "mlartifacts", "outputs", ".dvc")
    shutil.copytree(reproduced, root, ignore=left_out)
    project = Project(root)
    files = sorted((project.data / "imagenet" / "val").iterdir())
    found = SimpleNamespace(root=root, images=[Image.open(file).convert("RGB") for file in files[:2]])
    sent = Image.open(root / re.search(r"base64 < (\S+);", PAGE.read_text())[1])
    save = training.save_checkpoint

    def ask_and_save(folder, classifier, card):
        classifier.eval()
        prepared = evaluation_transform(classifier.preprocessing)(sent.convert("RGB"))
        with torch.no_grad():
            found.logits = classifier(torch.from_numpy(np.stack([as_pixels(image) for image in found.images]))).numpy()
            found.documented = classifier(prepared[None]).numpy()
        return save(folder, classifier, card)

    settings = load_settings(root)
    planned = plan(project, settings, Training(model="test_resnet", recipe="harmonized"))
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        patch.setattr(training, "save_checkpoint", ask_and_save)
        found.card = training.train(project, planned, project.runs / planned.name, list, device="cpu", resume=False)
        published = program(root, "publish")
        assert published.returncode == 0, published.stderr
        words = ("registry", "promote", NAME, "--force", "--reason", "to be served")  # it is not evaluated here
        promoted = program(root, *words)
        assert promoted.returncode == 0, promoted.stderr
    return found


def documented_blocks():
    """The commands of the documentation that start the server and send an image."""
    blocks = re.findall(r"^```sh once\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    serve, ask = (block for block in blocks if "5001" in block)
    return serve, ask


@pytest.fixture(scope="module")
def port():
    """A port that nobody listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@pytest.fixture(scope="module")
def server(trained, port, tmp_path_factory):
    """The server, started as documented but on that port; ended with all its processes whatever happens."""
    log = tmp_path_factory.mktemp("log") / "server.log"
    command = ["bash", "-c", documented_blocks()[0].replace("5001", str(port))]
    with log.open("w") as stream:
        process = subprocess.Popen(
            command, cwd=trained.root, env=environment(), stdout=stream, stderr=stream, start_new_session=True
        )
    try:
        wait_until_it_answers(process, port, log)
        yield process
    finally:
        end(process)


def wait_until_it_answers(server: subprocess.Popen, port: int, log: Path) -> None:
    while server.poll() is None:
        with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/ping", timeout=5):
            return
        time.sleep(0.2)
    raise AssertionError(f"it ended:\n{log.read_text()}")


def end(server: subprocess.Popen) -> None:
    """End the server's process group, gently, then not."""
    for how in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, how)
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.wait(10)


def post(port, body):
    """Status and parsed JSON of the answer."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/invocations", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def as_base64(image):
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def check(rows, logits, card):
    """Every column of the answer against logits."""
    assert len(rows) == len(logits)
    for row, values in zip(rows, logits.astype(np.float64), strict=True):
        scores = [values[np.array(card.group_of_class) == group].max() for group in range(2)]
        odds = np.exp(values - values.max())
        assert row == {
            "class_index": values.argmax(),
            "class_name": card.classes[values.argmax()].name,
            "class_probability": pytest.approx(odds.max() / odds.sum(), rel=0, abs=1e-5),
            "decision": card.decisions[int(np.argmax(scores))],
            "inanimate_score": pytest.approx(scores[0], rel=0, abs=1e-5),
            "animate_score": pytest.approx(scores[1], rel=0, abs=1e-5),
        }


def test_png_files_and_arrays_get_the_training_processs_answer(trained, server, port):
    files = [as_base64(image) for image in trained.images]
    pixels = np.stack([as_pixels(image) for image in trained.images]).tolist()
    assert np.abs(trained.logits[0] - trained.logits[1]).max() > 1e-3  # two images, two answers
    for body in (
        {"inputs": files},
        {"inputs": pixels},
        {"instances": files},
        {"instances": [{"image": file} for file in files]},
        {"dataframe_records": [{"image": file} for file in files]},
        {"dataframe_split": {"columns": ["image"], "data": [[file] for file in files]}},
    ):
        status, answer = post(port, body)
        assert status == 200, answer
        check(answer["predictions"], trained.logits, trained.card)


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_the_documented_request_works(trained, server, port):
    command = documented_blocks()[1].replace("5001", str(port))
    done = subprocess.run(["bash", "-c", command], cwd=trained.root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    check(json.loads(done.stdout)["predictions"], trained.documented, trained.card)


def test_a_bad_image_is_a_400_with_one_line(trained, server, port):
    whole = as_base64(trained.images[0])
    damaged = base64.b64encode(base64.b64decode(whole)[:300]).decode()
    for images, message in (
        ([whole, damaged], r"images\[1\] is damaged or truncated \(.*\): send the whole file again"),
        (["R0lGODlhAQABAAAAACw="], r"images\[0\] is not a readable PNG or JPEG file .*"),
        ([], r"the request holds no images; .*"),
        ((255 * as_pixels(trained.images[0])[None]).tolist(), r"images\[0\] has pixels from .*: divide by 255"),
    ):
        status, answer = post(port, {"inputs": images})
        assert status == 400
        assert answer["error_code"] == "INVALID_PARAMETER_VALUE"
        assert re.fullmatch(message, answer["message"])
    assert post(port, {"inputs": [whole]})[0] == 200  # and it goes on serving


def test_the_server_ends_with_its_children(server, port):
    """Runs last."""
    end(server)
    for _ in range(50):
        with socket.socket() as connection:
            if connection.connect_ex(("127.0.0.1", port)) == errno.ECONNREFUSED:
                return
        time.sleep(0.1)
    pytest.fail("somebody still listens")
