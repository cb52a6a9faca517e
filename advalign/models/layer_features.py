"""What a layer computes for every image of an ordinary pass, as one vector: loss terms and probes use it."""

from types import TracebackType
from typing import Any

from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.hooks import RemovableHandle

from advalign.errors import InapplicableError


class LayerFeatures:
    """Context in which a classifier's passes are watched; `values` are the features of the last one.

    Args:
        classifier: pixels in [0, 1] -> logits, bare or inside DistributedDataParallel.
        layer: name of a layer inside the network: its output; None: the penultimate features, which are what the last
            linear layer reads.
    """

    def __init__(self, classifier: nn.Module, layer: str | None = None) -> None:
        bare = classifier.module if isinstance(classifier, DistributedDataParallel) else classifier
        self.network: Any = getattr(bare, "network", bare)
        self.layer = layer
        self._handles: list[RemovableHandle] = []
        self._seen: Any = None

    def __enter__(self) -> "LayerFeatures":
        self._seen = None
        if self.layer is None:
            linear = [module for module in self.network.modules() if isinstance(module, nn.Linear)]
            self._handles = [module.register_forward_pre_hook(self._see_input) for module in linear]
            return self
        names = dict(self.network.named_modules())
        if self.layer not in names or not self.layer:
            outer = ", ".join(name for name in names if name and "." not in name)
            raise InapplicableError(f"{self._kind} has no layer {self.layer!r}: it has {outer}")
        self._handles = [names[self.layer].register_forward_hook(self._see_output)]
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for handle in self._handles:
            handle.remove()

    def _see_input(self, _: nn.Module, inputs: tuple[Any, ...]) -> None:
        self._seen = inputs[0]

    def _see_output(self, _: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        self._seen = output

    @property
    def _kind(self) -> str:
        return type(self.network).__name__

    @property
    def values(self) -> Tensor:
        """(N, F): of a feature map the mean over its positions, of tokens the mean over these.

        Raises:
            InapplicableError: the layer gives something else, or there is no linear layer.
        """
        seen = self._seen
        if self.layer is None and (not isinstance(seen, Tensor) or seen.ndim != 2):
            raise InapplicableError(f"{self._kind} does not end in a linear layer of a vector: name a layer")
        if not isinstance(seen, Tensor) or not 2 <= seen.ndim <= 4:
            raise InapplicableError(f"layer {self.layer!r} of {self._kind} gives no features of images: name another")
        if seen.ndim == 4:
            last = getattr(self.network, "output_fmt", None) == "NHWC"
            return seen.mean((1, 2) if last else (2, 3))
        return seen.mean(1) if seen.ndim == 3 else seen
