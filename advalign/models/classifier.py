"""The one way a network is called: pixels in [0, 1] -> logits; resizing and normalisation happen inside, once."""

from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from advalign.strict_settings import Strict

Positive = Annotated[float, Field(gt=0)]


class Preprocessing(Strict):
    """A network's preprocessing; it is stored with the weights.

    Attributes:
        input_size: side of the square input in pixels.
        mean, std: per channel, in units of pixels in [0, 1].
        interpolation: the mode of timm's evaluation transform ("bilinear", "bicubic", ...).
        crop: share of the resized image that the evaluation transform keeps.
        crop_mode: how it crops ("center", "squash", "border"), in timm's words.
    """

    input_size: int = Field(ge=1, le=8192)
    mean: tuple[float, float, float]
    std: tuple[Positive, Positive, Positive]
    interpolation: str = "bicubic"
    crop: Positive = 0.875
    crop_mode: str = "center"


class Classifier(nn.Module):
    """A network with its preprocessing: (N, 3, H, W) pixels in [0, 1] -> (N, classes) logits.

    An image of another size than the network's is resized (the network's mode if bilinear or bicubic, else bilinear; no
    antialias, no crop), so that one attack space serves every model (docs/methods.md, section Attack space).
    """

    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module, preprocessing: Preprocessing) -> None:
        super().__init__()
        self.network = network
        self.preprocessing = preprocessing
        self.register_buffer("mean", torch.tensor(preprocessing.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(preprocessing.std).view(1, 3, 1, 1), persistent=False)

    def forward(self, pixels: Tensor) -> Tensor:
        """Logits of pixels in [0, 1]; values outside are the caller's error and are not checked here, for speed."""
        size = self.preprocessing.input_size
        if pixels.shape[-2:] != (size, size):
            mode = self.preprocessing.interpolation
            mode = mode if mode in ("bilinear", "bicubic") else "bilinear"
            pixels = F.interpolate(pixels, size=(size, size), mode=mode, align_corners=False, antialias=False)
        logits: Tensor = self.network((pixels - self.mean) / self.std)
        return logits
