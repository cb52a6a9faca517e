"""Registered models: what a version holds, accepts and refuses, and that loading it needs and unpickles nothing."""

import ast
import base64
import inspect
import io
import json
import os
import pickle
import re
import struct
import subprocess
import sys
import zlib
from importlib.metadata import packages_distributions
from pathlib import Path
from types import ModuleType

import cloudpickle
import mlflow
import numpy as np
import pandas as pd
import pytest
import torch
from mlflow.exceptions import MlflowException
from mlflow.models.utils import _validate_serving_input
from mlflow.pyfunc import scoring_server
from PIL import Image
from starlette.testclient import TestClient

from advalign.errors import InputError
from advalign.files import Project, sha256
from advalign.models.checkpoints import WEIGHTS, load_checkpoint
from advalign.models.zoo import create_classifier
from advalign.tracking.registry.packaging import REQUIREMENTS, SERVED, example_images, log_packed
from advalign.tracking.registry.served_model import decode
from tests.conftest import REPOSITORY, save_untrained

SIZE = 64


def encoded(image, kind="PNG"):
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


def noise(width, height, seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def as_array(*images):
    return np.stack([np.asarray(image).transpose(2, 0, 1) / 255 for image in images]).astype(np.float32)


def png_that_claims(width, height):
    """A PNG file of a few bytes whose header promises any size."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(bytes(100))), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )


IMAGES = (noise(SIZE, SIZE, 1), noise(SIZE, SIZE, 2))
FILES = [encoded(image) for image in IMAGES]


@pytest.fixture(scope="module")
def checkpoint(sample_root, tmp_path_factory):
    """A network with random weights, on disk."""
    root = tmp_path_factory.mktemp("served")
    (root / "data").symlink_to(sample_root / "data")
    save_untrained(Project(root), "test_resnet.served", create_classifier("test_resnet", 36, SIZE, seed=3))
    return root / "outputs" / "checkpoints" / "test_resnet.served"


@pytest.fixture(scope="module")
def logged(checkpoint, tmp_path_factory):
    """The folder of the model that MLflow makes of it, in a store of its own."""
    root = tmp_path_factory.mktemp("store")
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(f"sqlite:///{root / 'mlflow.db'}")
    experiment = mlflow.create_experiment("served", artifact_location=(root / "artifacts").as_uri())
    with mlflow.start_run(experiment_id=experiment):
        uri = log_packed(load_checkpoint(checkpoint)[1], checkpoint).model_uri
    folder = Path(mlflow.artifacts.download_artifacts(uri, dst_path=root / "copy"))
    mlflow.set_tracking_uri(before)
    return folder


@pytest.fixture(scope="module")
def model(logged):
    return mlflow.pyfunc.load_model(str(logged))


@pytest.fixture(scope="module")
def expected(checkpoint):
    """From pixels to the table, by way of the torch module."""
    classifier, card = load_checkpoint(checkpoint)

    def table(pixels):
        with torch.no_grad():
            logits = classifier(torch.as_tensor(pixels)).numpy()
        animate = np.array(card.group_of_class) == 1
        scores = np.stack([logits[:, ~animate].max(1), logits[:, animate].max(1)], 1)
        odds = np.exp(logits - logits.max(1, keepdims=True))
        return pd.DataFrame(
            {
                "class_index": logits.argmax(1),
                "class_name": [card.classes[index].name for index in logits.argmax(1)],
                "class_probability": odds.max(1) / odds.sum(1),
                "decision": np.array(["inanimate", "animate"])[scores.argmax(1)],
                "inanimate_score": scores[:, 0],
                "animate_score": scores[:, 1],
            }
        )

    return table


def same(found, wanted):
    pd.testing.assert_frame_equal(found, wanted, check_dtype=False, rtol=0, atol=1e-5)


TEXT = [base64.encodebytes(file).decode() for file in FILES]  # with line breaks


@pytest.mark.parametrize(
    "images",
    [
        pytest.param(as_array(*IMAGES), id="float32 array"),
        pytest.param(as_array(*IMAGES).astype(np.float64), id="float64 array"),
        pytest.param({"image": as_array(*IMAGES)}, id="named array"),
        pytest.param(pd.DataFrame({"image": FILES}), id="table of bytes"),
        pytest.param(pd.DataFrame({"image": TEXT}), id="table of base64"),
        pytest.param(np.array(FILES, dtype=object), id="objects"),
        pytest.param(np.array(FILES), id="numpy's own bytes"),
    ],
)
def test_every_form_of_the_same_pixels_is_the_torch_modules_answer(model, expected, images):
    same(model.predict(images), expected(as_array(*IMAGES)))


def test_an_array_of_another_size_is_the_torch_modules_answer(model, expected):
    pixels = as_array(noise(40, 50))
    same(model.predict(pixels), expected(pixels))


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_a_photograph_is_resized_to_the_short_side_and_cropped_in_the_middle(model, expected, kind):
    file = encoded(noise(128, 96), kind)
    image = Image.open(io.BytesIO(file)).resize((85, SIZE), Image.Resampling.BILINEAR)
    left = round((85 - SIZE) / 2)
    prepared = image.crop((left, 0, left + SIZE, SIZE))
    same(model.predict(pd.DataFrame({"image": [file]})), expected(as_array(prepared)))


def test_grey_palette_and_transparent_files_become_rgb(model, expected):
    for mode in ("L", "P", "RGBA"):
        image = IMAGES[0].convert(mode)
        found = model.predict(pd.DataFrame({"image": [encoded(image)]}))
        same(found, expected(as_array(image.convert("RGB"))))


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.array([FILES[0], FILES[1][:200]], dtype=object), r"images\[1\] is damaged or truncated \(.*truncated"),
        (np.array([encoded(IMAGES[0], "JPEG")[:900]], dtype=object), r"images\[0\] is damaged or truncated"),
        (np.array([FILES[0][:9]], dtype=object), r"images\[0\] is not a readable PNG or JPEG file \(9 bytes"),
        (np.array([encoded(IMAGES[0], "GIF")], dtype=object), r"images\[0\] is not a readable .* beginning b'GIF87a"),
        (np.array([b""], dtype=object), r"images\[0\] is not a readable .* \(0 bytes"),
        (np.array([FILES[0], "not an image"], dtype=object), r"images\[1\] is text but not base64"),
        (np.array(["aGVsbG8="], dtype=object), r"images\[0\] is not a readable .* beginning b'hello'"),
        (np.array([None], dtype=object), r"images\[0\] is of type NoneType; expected PNG or JPEG files"),
        (np.array([FILES[0], [1.0, 2.0]], dtype=object), r"images\[1\] is of type list"),
        (np.array([png_that_claims(60_000, 60_000)], dtype=object), r"images\[0\] has more than twice the limit"),
        (np.array([png_that_claims(10_000, 10_000)], dtype=object), r"images\[0\] has 10000 x 10000 pixels, over"),
        (np.array([png_that_claims(1, 80_000_000)], dtype=object), r"images\[0\] has 1 x 80000000 pixels, over"),
        (np.array([], dtype=object), "the request holds no images"),
        (np.zeros((0, 3, 8, 8)), r"shape \(0, 3, 8, 8\)"),
        (np.zeros((2, 8, 8, 3)), r"shape \(2, 8, 8, 3\).*transpose\(0, 3, 1, 2\)"),
        (np.zeros((3, 8, 8)), r"shape \(3, 8, 8\).*one image needs a first axis"),
        (np.zeros((2, 1, 8, 8)), r"shape \(2, 1, 8, 8\)"),
        (np.zeros((2, 3, 8, 8), np.uint8), "images are uint8; expected floating point"),
        (np.full((2, 3, 8, 8), 200.0), r"images\[0\] has pixels from 200 to 200; expected \[0, 1\]: divide by 255"),
        (np.stack([np.zeros((3, 8, 8)), np.full((3, 8, 8), -0.5)]), r"images\[1\] has pixels from -0.5 to -0.5"),
        (np.full((1, 3, 8, 8), np.nan), r"images\[0\] has pixels that are NaN or infinite"),
        (np.stack([np.zeros((3, 8, 8)), np.full((3, 8, 8), np.inf)]), r"images\[1\] has pixels that are NaN or inf"),
        (np.full((1, 3, 8, 8), "a", dtype=object), "values of type str, which are not numbers"),
        (np.full((1, 3, 8, 8), "0.5", dtype=object), "values of type str, which are not numbers"),
        (np.full((1, 3, 8, 8), True, dtype=object), "values of type bool, which are not numbers"),
        (np.full((1, 3, 8, 8), None, dtype=object), "values of type NoneType, which are not numbers"),
        (np.full((1, 3, 8, 8), 10**400, dtype=object), "numbers that are too large"),
        (np.zeros((1, 3, 8, 8), bool), "images are bool; expected floating point"),
        (np.broadcast_to(np.float32(0.5), (1, 3, 10**6, 10**6)), r"1000000 x 1000000 pixels, over the limit"),
    ],
)
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_what_cannot_be_classified_is_one_line(model, images, message):
    with pytest.raises(InputError, match=message) as refused:
        model.predict(images)
    assert "\n" not in str(refused.value)
    assert refused.value.get_http_status_code() == 400
    refused.value.message = f"Failed to predict data '{images}'. \nError: {refused.value.message}"  # as the server does
    assert json.loads(refused.value.serialize_as_json())["message"] == str(refused.value)


ONE = np.zeros((1, 3, 8, 8))


def pixels_with(value):
    """A request of one image whose first pixel is something else."""
    pixels = ONE.tolist()
    pixels[0][0][0][0] = value
    return json.dumps({"inputs": pixels})


def nested(depth, opening="[", closing="]"):
    return '{"inputs": ' + opening * depth + "1" + closing * depth + "}"


BODIES = {
    "nested beyond every limit": (nested(100_000), "the request is nested too deeply for JSON"),
    "nested and cut off": ('{"inputs": ' + "[" * 100_000, "the request is nested too deeply for JSON"),
    "nested mappings": (nested(100_000, '{"a": ', "}"), "the request is nested too deeply for JSON"),
    "nested too deeply for NumPy": (nested(500), "JSON-formatted string"),
    "nested a little": (nested(50), r"images have shape \(1, 1, "),
    "a number of 5000 digits": (pixels_with(0).replace("[0,", f"[{'9' * 5000},", 1), "number with too many digits"),
    "a number of 400 digits": (pixels_with(10**400), "numbers that are too large"),
    "strings as pixels": (pixels_with("0.5"), "values of type str, which are not numbers"),
    "booleans as pixels": (pixels_with(True), "values of type bool, which are not numbers"),
    "null as a pixel": (pixels_with(None), "values of type NoneType, which are not numbers"),
    "an object as a pixel": (pixels_with({"a": 1}), "values of type dict, which are not numbers"),
    "mixed depth": (pixels_with([0.5]), "values of type list, which are not numbers"),
    "NaN": (pixels_with(float("nan")), r"images\[0\] has pixels that are NaN or infinite"),
    "infinity": (pixels_with(0).replace("[0,", "[1e999,", 1), r"images\[0\] has pixels that are NaN or infinite"),
    "no images": ('{"inputs": []}', "the request holds no images"),
    "no pixels": ('{"inputs": [[[[]]]]}', r"images have shape \(1, 1, 1, 0\)"),
    "null": ('{"inputs": null}', r"images\[0\] is of type NoneType"),
}


@pytest.fixture(scope="module")
def client(logged):
    """A client of MLflow's scoring server in this process, which loads the model as `mlflow models serve` does."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scoring_server, "_decode_json_input", scoring_server._decode_json_input)  # undone afterwards
        patch.setitem(sys.modules, "mlflow.pyfunc.scoring_server.app", ModuleType("app"))
        patch.setenv("_MLFLOW_IS_IN_SERVING_ENVIRONMENT", "true")
        app = scoring_server.init(mlflow.pyfunc.load_model(str(logged)))
        yield TestClient(app, raise_server_exceptions=False)


@pytest.mark.parametrize("name", BODIES)
def test_a_bad_request_is_status_400_and_a_short_sentence(client, name):
    body, told = BODIES[name]
    answer = client.post("/invocations", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 400, answer.text
    message = answer.json()["message"]
    assert re.search(told, message), message
    assert len(message) < 400
    assert "Traceback" not in answer.text


def test_whole_numbers_in_range_are_pixels_of_a_request(client, expected):
    body = json.dumps({"inputs": ONE.astype(int).tolist()})
    answer = client.post("/invocations", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 200
    same(pd.DataFrame(answer.json()["predictions"]), expected(ONE.astype(np.float32)))


def test_nothing_of_mlflow_is_changed_where_no_server_runs(logged, monkeypatch):
    monkeypatch.delitem(sys.modules, "mlflow.pyfunc.scoring_server.app", raising=False)
    before = inspect.unwrap(scoring_server._decode_json_input)
    monkeypatch.setattr(scoring_server, "_decode_json_input", before)
    mlflow.pyfunc.load_model(str(logged))
    assert scoring_server._decode_json_input is before


def test_damage_anywhere_in_a_file_is_an_input_error(checkpoint):
    preprocessing = load_checkpoint(checkpoint)[1].preprocessing
    random = np.random.default_rng(0)
    refused = 0
    for kind in ("PNG", "JPEG"):
        whole = np.frombuffer(encoded(noise(16, 16), kind), np.uint8)
        for _ in range(300):
            damaged = whole.copy()
            damaged[random.integers(len(whole), size=3)] = random.integers(256, size=3)
            try:
                decode(damaged.tobytes(), 0, preprocessing)
            except InputError:
                refused += 1
    assert refused > 300  # a JPEG's coefficients may change unnoticed; every PNG chunk has a checksum


def test_the_signature_says_one_object_per_image_and_the_tables_columns(model):
    signature = json.loads(json.dumps(model.metadata.signature.to_dict()))
    assert json.loads(signature["inputs"]) == [
        {"name": "image", "type": "tensor", "tensor-spec": {"dtype": "object", "shape": [-1]}}
    ]
    table = model.predict(as_array(*IMAGES))
    declared = {column["name"]: column["type"] for column in json.loads(signature["outputs"])}
    assert list(declared) == list(table.columns)
    assert {
        name: {"int64": "long", "float64": "double"}.get(str(kind), "string") for name, kind in table.dtypes.items()
    } == (declared)
    assert all(isinstance(value, str) for name in ("class_name", "decision") for value in table[name])
    with pytest.raises(MlflowException, match=r"missing inputs \['image'\]"):
        model.predict(pd.DataFrame({"picture": FILES}))


def test_the_input_example_passes_mlflows_own_check(logged, model, expected):
    example = example_images(SIZE)
    assert example.equals(example_images(SIZE))
    pixels = as_array(*(Image.open(io.BytesIO(file)) for file in example["image"]))
    assert pixels.shape == (2, 3, SIZE, SIZE)
    assert pixels.std() > 0.2
    request = (logged / "serving_input_example.json").read_text()
    same(_validate_serving_input(str(logged), request), expected(pixels))
    same(model.predict(model.input_example), expected(pixels))


def test_a_version_holds_the_weights_to_the_bit_and_no_pickle(logged, checkpoint):
    files = {path.relative_to(logged).as_posix(): path for path in logged.rglob("*") if path.is_file()}
    weights = files[f"artifacts/{checkpoint.name}/{WEIGHTS}"]
    assert sha256(weights) == sha256(checkpoint / WEIGHTS)
    assert files["served.py"].read_bytes() == SERVED.read_bytes()
    for name, path in files.items():
        if path != weights:
            path.read_text("utf-8")  # a pickle is not UTF-8: it begins with 0x80
        assert not re.search(r"\.(pkl|pickle|pt|pth|bin|joblib)$", name)


def test_loading_unpickles_nothing(logged, expected, monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("something was unpickled")

    for module, names in ((pickle, ("load", "loads", "Unpickler")), (cloudpickle, ("load", "loads"))):
        for name in names:
            monkeypatch.setattr(module, name, refuse)
    monkeypatch.setattr(torch, "load", refuse)
    same(mlflow.pyfunc.load_model(str(logged)).predict(as_array(*IMAGES)), expected(as_array(*IMAGES)))


OFFLINE = """
import socket, sys

def refuse(*_):
    raise AssertionError("the network was used")

socket.socket.connect = socket.socket.connect_ex = socket.getaddrinfo = refuse
import mlflow, numpy, torch

assert not torch.cuda.is_available()
table = mlflow.pyfunc.load_model(sys.argv[1]).predict(numpy.load(sys.argv[2]))
table.to_json(sys.argv[3])
"""


@pytest.mark.slow
def test_loading_needs_no_network_and_no_gpu(logged, expected, tmp_path):
    np.save(tmp_path / "pixels.npy", as_array(*IMAGES))
    files = [str(logged), str(tmp_path / "pixels.npy"), str(tmp_path / "table.json")]
    child = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", OFFLINE, *files], cwd=tmp_path, env=child, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    same(pd.read_json(tmp_path / "table.json"), expected(as_array(*IMAGES)))


def test_the_requirements_pin_all_that_the_served_code_imports(logged):
    names, seen, todo = set(), set(), [SERVED]
    while todo:
        path = todo.pop()
        seen.add(path)
        for node in ast.walk(ast.parse(path.read_text())):
            modules = [node.module] if isinstance(node, ast.ImportFrom) else []
            modules += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            for module in modules:
                source = REPOSITORY / f"{module.replace('.', '/')}.py"
                if module.startswith("advalign.") and source.is_file() and source not in seen:
                    todo.append(source)
                elif module.split(".")[0] not in sys.stdlib_module_names | {"advalign"}:
                    names.add(module.split(".")[0])
    assert {"PIL", "timm", "torch", "mlflow", "yaml"} <= names
    providers = packages_distributions()
    assert [name for name in names if not {one.lower() for one in providers[name]} & set(REQUIREMENTS)] == []
    pinned = (logged / "requirements.txt").read_text().split()
    assert sorted(line.split("==")[0] for line in pinned) == sorted(REQUIREMENTS)
