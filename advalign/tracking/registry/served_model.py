"""Registered models that are served: images in, class and scores or responses out. Loading them unpickles nothing."""

import base64
import binascii
import io
import math
import struct
import sys
import zlib
from functools import wraps
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from mlflow.pyfunc.model import PythonModel
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from advalign.errors import InputError, quoted
from advalign.models.checkpoints import Card, load_checkpoint
from advalign.models.classifier import Classifier, Preprocessing
from advalign.models.predictors import load_predictor
from advalign.models.superclasses import GroupedClassifier
from advalign.models.zoo import evaluation_transform

FORMATS = ("PNG", "JPEG")
EXPECTED = "expected PNG or JPEG files as bytes or base64 text, or one array (N, 3, H, W) of pixels in [0, 1]"
UNREADABLE = (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error)  # what Pillow's decoders raise


class RefusedImagesError(InputError, MlflowException):
    """Images that cannot be classified: an `InputError` in Python, status 400 over HTTP."""

    def __init__(self, message: str) -> None:
        super().__init__(message, error_code=INVALID_PARAMETER_VALUE)

    @property
    def message(self) -> str:
        """The one line that the error was made with."""
        return str(self.args[0])

    @message.setter
    def message(self, _: str) -> None:
        """Keep the line: the scoring server would put the whole request before it."""


def decode(encoded: Any, position: int, preprocessing: Preprocessing) -> Image.Image:
    """Decode one image file.

    Args:
        encoded: a PNG or JPEG file as bytes, or its base64 text (line breaks do not matter).
        position: of the image in the request, for messages.
        preprocessing: of the model; its size bounds how far a narrow image may be enlarged.

    Returns:
        The whole image in RGB, as it is stored (an orientation in its EXIF data is not applied).

    Raises:
        InputError: not base64, another format, damaged, truncated, or larger than Pillow's limit.
    """
    where = f"images[{position}]"
    if isinstance(encoded, str):
        try:
            encoded = base64.b64decode("".join(encoded.split()), validate=True)
        except (binascii.Error, ValueError):
            raise RefusedImagesError(
                f"{where} is text but not base64: encode the bytes of a PNG or JPEG file"
            ) from None
    if not isinstance(encoded, bytes):
        raise RefusedImagesError(f"{where} is of type {type(encoded).__name__}; {EXPECTED}")
    try:
        image = Image.open(io.BytesIO(encoded), formats=FORMATS)
        _check_size(image.size, where, preprocessing)
        return image.convert("RGB")
    except Image.DecompressionBombError:
        limit = f"{Image.MAX_IMAGE_PIXELS:,}"
        raise RefusedImagesError(f"{where} has more than twice the limit of {limit} pixels: shrink it") from None
    except UnidentifiedImageError:
        begins = f"{len(encoded)} bytes, beginning {encoded[:8]!r}"
        raise RefusedImagesError(
            f"{where} is not a readable PNG or JPEG file ({begins}): convert or resend it"
        ) from None
    except UNREADABLE as error:
        reason = quoted(error)
        raise RefusedImagesError(f"{where} is damaged or truncated ({reason}): send the whole file again") from None


def _check_size(size: tuple[int, int], where: str, preprocessing: Preprocessing) -> None:
    """Refuse what is too large as it is, or would be once its short side is resized for the model."""
    limit = Image.MAX_IMAGE_PIXELS or math.inf
    width, height = size
    resized = max(size) / min(size) * (preprocessing.input_size / preprocessing.crop) ** 2
    if width * height > limit or resized > limit:
        raise RefusedImagesError(
            f"{where} has {width} x {height} pixels, over the limit of {limit:,}: shrink or crop it"
        )


def read_pixels(images: np.ndarray[Any, Any]) -> Tensor:
    """Check an array of pixels.

    Args:
        images: (N, 3, H, W) floating point, or objects that are numbers (from JSON), in [0, 1].

    Returns:
        (N, 3, H, W) float32, values as given.

    Raises:
        InputError: another shape or type (strings and booleans are no pixels), no images, more pixels than an image may
            have, or values outside [0, 1].
    """
    if images.dtype.kind not in "fO":
        raise RefusedImagesError(
            f"images are {images.dtype}; expected floating point in [0, 1]: convert, divide by 255"
        )
    if images.ndim != 4 or images.shape[1] != 3 or 0 in images.shape:
        mend = ""
        if images.shape[-1:] == (3,):
            mend = ": channels come first: transpose(0, 3, 1, 2)"
        elif images.ndim == 3 and images.shape[0] == 3:
            mend = ": one image needs a first axis"
        raise RefusedImagesError(f"images have shape {images.shape}; expected (N, 3, H, W) with N, H, W > 0{mend}")
    height, width = images.shape[2:]
    if height * width > (Image.MAX_IMAGE_PIXELS or math.inf):
        limit = f"{Image.MAX_IMAGE_PIXELS:,}"
        raise RefusedImagesError(
            f"images have {width} x {height} pixels, over the limit of {limit}: shrink or crop them"
        )
    pixels = torch.from_numpy(_as_float32(images))
    _check_range(pixels)
    return pixels


def _check_range(pixels: Tensor) -> None:
    """Refuse values outside [0, 1]; the message names the first image that has one."""
    inside = ((pixels >= 0) & (pixels <= 1)).flatten(1).all(1)
    if bool(inside.all()):
        return
    position = int(inside.int().argmin())
    if not bool(pixels[position].isfinite().all()):
        raise RefusedImagesError(f"images[{position}] has pixels that are NaN or infinite; expected [0, 1]: mend them")
    low, high = pixels[position].min().item(), pixels[position].max().item()
    mend = "divide by 255" if low >= 0 and 1 < high <= 255 else "clip or rescale them"
    raise RefusedImagesError(f"images[{position}] has pixels from {low:g} to {high:g}; expected [0, 1]: {mend}")


def _as_float32(images: np.ndarray[Any, Any]) -> NDArray[np.float32]:
    """An array of numbers in float32; of objects, only numbers count: NumPy would take "0.5" and True for numbers."""
    strange = {type(one) for one in images.flat} - {int, float} if images.dtype.kind == "O" else set()
    if strange:
        names = ", ".join(sorted(kind.__name__ for kind in strange))
        raise RefusedImagesError(f"images hold values of type {names}, which are not numbers; {EXPECTED}")
    try:
        return images.astype(np.float32)
    except OverflowError:
        raise RefusedImagesError("images hold numbers that are too large; expected [0, 1]: divide them") from None
    except MemoryError:
        raise RefusedImagesError(f"{len(images)} images do not fit in memory: send fewer at once") from None


def read_images(images: Any, preprocessing: Preprocessing) -> Tensor:
    """Turn what a request holds into pixels.

    Args:
        images: N encoded files (see `decode`), prepared by the model's own evaluation transform; or an array of pixels
            (see `read_pixels`), used as it is: the space in which models are attacked.
        preprocessing: of the model.

    Returns:
        (N, 3, H, W) float32 in [0, 1].

    Raises:
        InputError: no images, or one that cannot be used; the message names its position.
    """
    array = np.atleast_1d(np.asarray(images, dtype=object if isinstance(images, (list, pd.Series)) else None))
    if array.ndim > 1 or array.dtype.kind not in "OSU":
        return read_pixels(array)
    if len(array) == 0:
        raise RefusedImagesError(f"the request holds no images; {EXPECTED}")
    transform = evaluation_transform(preprocessing)
    files = [one.item() if isinstance(one, np.ndarray) and one.ndim == 0 else one for one in array]  # JSON "instances"
    return torch.stack([transform(decode(one, position, preprocessing)) for position, one in enumerate(files)])


def classify(classifier: Classifier, card: Card, pixels: Tensor) -> pd.DataFrame:
    """Classify images.

    Args:
        classifier, card: from `load_checkpoint`.
        pixels: (N, 3, H, W) float32 in [0, 1].

    Returns:
        One row per image: class_index, class_name, class_probability, decision, and one `<decision>_score` (the
        largest logit of the decision's classes) each.
    """
    with torch.no_grad():
        logits = classifier(pixels)
        scores = GroupedClassifier(lambda _: logits, card.group_of_class)(pixels)
    best = logits.argmax(1).tolist()
    table = pd.DataFrame(
        {
            "class_index": best,
            "class_name": [card.classes[index].name for index in best],
            "class_probability": logits.softmax(1).amax(1).tolist(),
            "decision": [card.decisions[index] for index in scores.argmax(1).tolist()],
        }
    )
    for number, decision in enumerate(card.decisions):
        table[f"{decision}_score"] = scores[:, number].tolist()
    return table


def answer_to_unreadable_json() -> None:
    """Make MLflow's scoring server answer 400 to JSON that Python does not read, if this process is that server.

    MLflow expects only syntax errors there: deep nesting and integers of thousands of digits would get status 500.
    """
    server: Any = sys.modules.get("mlflow.pyfunc.scoring_server")
    if "mlflow.pyfunc.scoring_server.app" not in sys.modules or server is None:
        return
    decode = server._decode_json_input
    if hasattr(decode, "__wrapped__"):
        return

    @wraps(decode)
    def decode_or_refuse(body: Any) -> Any:
        try:
            return decode(body)
        except RecursionError:
            raise RefusedImagesError("the request is nested too deeply for JSON: send images as documented") from None
        except ValueError:
            raise RefusedImagesError("the request holds a number with too many digits: send pixels in [0, 1]") from None

    server._decode_json_input = decode_or_refuse


class ServedClassifier(PythonModel):
    """Images in, class and decision scores out."""

    def load_context(self, context: Any) -> None:
        """Rebuild the network from safetensors and card."""
        answer_to_unreadable_json()
        self.classifier, self.card = load_checkpoint(Path(context.artifacts["checkpoint"]))

    # MLflow would read type hints on predict as a schema; the signature is given at registration.
    def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
        """See `read_images` and `classify`; context and params are MLflow's, the input is a column or the images."""
        images = model_input["image"] if isinstance(model_input, (dict, pd.DataFrame)) else model_input
        return classify(self.classifier, self.card, read_images(images, self.card.preprocessing))


class ServedPredictor(PythonModel):
    """Images in, a response (float32) of each unit out: (N, units)."""

    def load_context(self, context: Any) -> None:
        """Rebuild network and map from safetensors and cards."""
        answer_to_unreadable_json()
        self.predictor = load_predictor(Path(context.artifacts["predictor"]))

    def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
        """See `read_images` and `Predictor.responses`."""
        images = model_input["image"] if isinstance(model_input, (dict, pd.DataFrame)) else model_input
        return self.predictor.responses(read_images(images, self.predictor.classifier.preprocessing))
