"""Saliency maps of a classifier, from what its layers computed in an ordinary pass: probes and loss terms use them."""

from abc import ABC, abstractmethod
from types import TracebackType
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.hooks import RemovableHandle

from advalign.errors import InapplicableError, InputError
from advalign.tensors.heatmaps import magnitude_map
from advalign.tensors.saliency import aimed_at, attention_rollout, grad_cam

Method = Literal["grad-cam", "rollout", "input-gradient"]


class Watched(ABC):
    """Context in which a classifier's passes are watched; the last one is explained.

    `with GradCam(classifier) as watched: logits = classifier(pixels)`, and then `watched.maps(logits, target)`.

    Args:
        classifier: pixels in [0, 1] -> logits, bare or inside DistributedDataParallel.
        layer: name of the layer inside the network that is explained; None: the method's own choice.

    Attributes:
        needs_gradient: whether logits must have a graph: pixels or weights must require a gradient.
    """

    needs_gradient: ClassVar[bool] = True

    def __init__(self, classifier: nn.Module, layer: str | None = None) -> None:
        bare = classifier.module if isinstance(classifier, DistributedDataParallel) else classifier
        self.classifier: nn.Module = bare
        self.network: Any = getattr(bare, "network", bare)
        self.layer = layer
        self._handles: list[RemovableHandle] = []

    def __enter__(self) -> "Watched":
        self._handles = self._watch()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for handle in self._handles:
            handle.remove()

    @property
    def _kind(self) -> str:
        return type(self.network).__name__

    @abstractmethod
    def _watch(self) -> list[RemovableHandle]:
        """Put hooks on the layers."""

    @abstractmethod
    def maps(self, logits: Tensor, target: Tensor, *, differentiable: bool = False) -> Tensor:
        """Maps of the watched pass.

        Args:
            logits: (N, classes), of the pass.
            target: as `tensors.saliency.aimed_at`.
            differentiable: whether the maps can be differentiated with respect to the weights.

        Returns:
            (N, h, w) in the method's own resolution; signed.

        Raises:
            InapplicableError: the method cannot explain a network of this kind.
        """


class InputGradient(Watched):
    """Largest magnitude of the target logit's gradient over the channels of each pixel (Simonyan et al. 2014)."""

    def _watch(self) -> list[RemovableHandle]:
        if self.layer is not None:
            raise InputError(f"input-gradient explains pixels: leave layer out, got {self.layer!r}")
        return [self.classifier.register_forward_pre_hook(self._see)]

    def _see(self, _: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        self._pixels = inputs[0]

    def maps(self, logits: Tensor, target: Tensor, *, differentiable: bool = False) -> Tensor:
        """See `Watched.maps`; never negative."""
        score = aimed_at(logits, target)
        (gradient,) = torch.autograd.grad(score, self._pixels, create_graph=differentiable, retain_graph=True)
        return magnitude_map(gradient)


class GradCam(Watched):
    """Grad-CAM of a layer (`tensors.saliency.grad_cam`); by default of the last feature map, read by global pooling.

    The last feature map is found in the pass: it is the last four-dimensional output with more than one position, or a
    single position where a convolution made it so. Tokens must not follow it.
    """

    def _watch(self) -> list[RemovableHandle]:
        self._features: Tensor | None = None
        self._tokens_follow = False
        if self.layer is None:
            return [module.register_forward_hook(self._see) for module in self.network.modules()]
        names = dict(self.network.named_modules())
        if self.layer not in names or not self.layer:
            raise InapplicableError(f"{self._kind} has no layer {self.layer!r}: it has {', '.join(_outer(names))}")
        return [names[self.layer].register_forward_hook(self._see)]

    def _see(self, module: nn.Module, inputs: tuple[Any, ...], output: object) -> None:
        if not isinstance(output, Tensor):
            return
        wide = output.ndim == 4 and output.shape[2:].numel() > 1
        shrunk = output.ndim == 4 and isinstance(module, nn.Conv2d) and inputs[0].shape[2:].numel() > 1
        if wide or shrunk:
            self._features, self._tokens_follow = output, False
        elif output.ndim == 3 and output.shape[1] > 1:
            self._tokens_follow = True

    def maps(self, logits: Tensor, target: Tensor, *, differentiable: bool = False) -> Tensor:
        """See `Watched.maps`."""
        features = self._checked_features()
        (gradient,) = torch.autograd.grad(
            aimed_at(logits, target), features, create_graph=differentiable, retain_graph=True
        )
        return grad_cam(features, gradient)

    def _checked_features(self) -> Tensor:
        features = self._features
        channels_last = getattr(self.network, "output_fmt", None) == "NHWC"
        if features is None or self._tokens_follow or channels_last:
            where = "" if self.layer is None else f" at {self.layer!r}"
            raise InapplicableError(
                f"Grad-CAM needs a convolutional feature map, and {self._kind} ends without one{where}: use rollout "
                "for a vision transformer, or input-gradient"
            )
        if features.shape[2:].numel() == 1:
            raise InapplicableError(
                f"the last convolutional feature map of {self._kind} is 1x1 at this input size, so Grad-CAM says "
                "nothing: name an earlier layer, or build it with less stride (timm's ResNets: output_stride 8)"
            )
        return features


class Rollout(Watched):
    """Attention rollout of timm's vision transformers: what the class token is made of, per patch."""

    needs_gradient = False

    def _watch(self) -> list[RemovableHandle]:
        if self.layer is not None:
            raise InputError(f"rollout goes through all layers: leave layer out, got {self.layer!r}")
        attentions = [part for part in self.network.modules() if hasattr(part, "fused_attn") and _drops(part)]
        grid = getattr(getattr(self.network, "patch_embed", None), "grid_size", None)
        if not attentions or grid is None:
            raise InapplicableError(f"rollout needs a vision transformer of timm, got {self._kind}: use grad-cam")
        if getattr(self.network, "cls_token", None) is None or self.network.global_pool != "token":
            raise InapplicableError(
                f"rollout follows the class token, and this {self._kind} decides without one (global_pool: "
                f"{self.network.global_pool}): use input-gradient"
            )
        self._grid: tuple[int, int] = tuple(grid)
        self._seen: dict[nn.Module, Tensor] = {}
        self._fused = {part: part.fused_attn for part in attentions}
        for part in attentions:
            part.fused_attn = False  # the fused kernel does not give its attention
        return [part.attn_drop.register_forward_pre_hook(self._see) for part in attentions]

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        super().__exit__(kind, error, at)
        for part, fused in self._fused.items():
            part.fused_attn = fused

    def _see(self, dropout: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        self._seen[dropout] = inputs[0]

    def maps(self, logits: Tensor, target: Tensor, *, differentiable: bool = False) -> Tensor:
        """See `Watched.maps`; shares, never negative. They do not depend on the target."""
        height, width = self._grid
        tokens = self.network.num_prefix_tokens + height * width
        shapes = {tuple(attention.shape[2:]) for attention in self._seen.values()}
        if len(self._seen) < len(self._fused) or shapes != {(tokens, tokens)}:
            raise InapplicableError(
                f"rollout needs attention of all {tokens} tokens in every layer, {self._kind} has another"
            )
        rolled = attention_rollout(list(self._seen.values()))
        rolled = rolled if differentiable else rolled.detach()
        return rolled[:, 0, self.network.num_prefix_tokens :].reshape(-1, height, width)


METHODS: dict[Method, type[Watched]] = {"grad-cam": GradCam, "rollout": Rollout, "input-gradient": InputGradient}


def _drops(part: nn.Module) -> bool:
    return isinstance(getattr(part, "attn_drop", None), nn.Module)


def _outer(names: dict[str, nn.Module]) -> list[str]:
    """Names of the outermost layers."""
    return [name for name in names if name and "." not in name]
