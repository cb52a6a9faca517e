"""Architectures by their timm names: resnet18, vit_base_patch16_224.augreg_in1k."""

from functools import cache
from typing import Any

import timm
from timm.models._registry import _deprecated_models
from torch import nn

from advalign.errors import InputError, unknown_name
from advalign.models.origins.base import Origin
from advalign.progress import say


def current_name(name: str) -> str:
    """The name that timm has now for a deprecated one, which is said once; any other name unchanged.

    Raises:
        InputError: timm has removed the architecture.
    """
    if name not in _deprecated_models:
        return name
    successor = _deprecated_models[name]
    if successor is None:
        raise InputError(f"model {name!r} was removed from timm without a successor: name another architecture")
    _say_current(name, successor)
    return successor


@cache
def _say_current(name: str, successor: str) -> None:
    """Say it once."""
    say(f"timm calls {name} {successor} now, and that name is used")


class Timm(Origin):
    """An architecture of timm; its name may end in the tag of published weights."""

    tried = False
    not_arguments = ("checkpoint_path", "cache_dir", "scriptable", "exportable", "no_jit", "features_only",
                     "feature_cfg", "feature_cls", "out_indices", "kwargs_filter", "model_cfg", "num_classes",
                     "pretrained")  # fmt: skip

    def check(self) -> None:
        """See `Origin`."""
        if not timm.is_model(self.name):
            raise unknown_name("model", self.name, timm.list_models())

    def build(self, classes: int, input_size: int, arguments: dict[str, Any]) -> nn.Module:
        """See `Origin`."""
        sized = self.with_size(input_size, arguments)
        network: nn.Module = timm.create_model(self.name, pretrained=False, num_classes=classes, **sized)
        return network

    def preprocessing(self) -> dict[str, Any]:
        """timm's preprocessing of the published weights, at the size that they were trained for."""
        config = self.config()
        return {
            "input_size": int(config.input_size[-1]),
            "mean": tuple(config.mean),
            "std": tuple(config.std),
            "interpolation": config.interpolation,
            "crop": config.crop_pct,
            "crop_mode": config.crop_mode or "center",
        }

    def check_square(self) -> None:
        """Refuse published weights whose input one size does not describe.

        Raises:
            InputError: they take other images than squares with three channels, or an unknown name.
        """
        shape = tuple(self.config().input_size)
        if shape[0] != 3 or shape[-1] != shape[-2]:
            raise InputError(
                f"the published weights of {self.name!r} take images of {' x '.join(map(str, shape))}, expected 3 "
                "channels and a square: give preprocessing: {input_size: ...} if they may be used otherwise"
            )

    def with_size(self, input_size: int, arguments: dict[str, Any]) -> dict[str, Any]:
        """The arguments, with the input size for architectures that have a fixed one."""
        config = timm.get_pretrained_cfg(self.name)
        fixed = config is not None and config.fixed_input_size
        return {**({"img_size": input_size} if fixed else {}), **arguments}

    def config(self) -> Any:
        """timm's configuration of the published weights.

        Raises:
            InputError: unknown name or tag (offers others).
        """
        if not timm.is_model(self.name):
            raise unknown_name("model", self.name, timm.list_models(pretrained=True))
        try:
            return timm.get_pretrained_cfg(self.name, allow_unregistered=False)
        except RuntimeError as error:
            tags = timm.list_models(f"{self.name.split('.')[0]}.*", pretrained=True)
            raise InputError(f"{error} timm has {', '.join(tags) or 'none'}") from None
