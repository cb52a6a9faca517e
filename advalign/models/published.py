"""Published weights through timm: how they are fetched and converted."""

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import timm
from huggingface_hub import get_hf_file_metadata, hf_hub_url
from huggingface_hub.errors import HfHubHTTPError
from torch import Tensor, nn

from advalign.errors import InputError, quoted
from advalign.models.origins.timm import Timm
from advalign.models.states import Place


def pretrained_classes(architecture: str) -> int:
    """Number of classes of the architecture's published weights; 0 if they have no classifier.

    Raises:
        InputError: timm does not know the name (offers the nearest).
    """
    return int(Timm(architecture).config().num_classes)


def fetch_pretrained(architecture: str, input_size: int, arguments: dict[str, Any], cache: Path) -> dict[str, Tensor]:
    """Fetch the published weights from the hub; without a classifier if they have none.

    Args:
        architecture: a timm name with its tag.
        input_size: side of the input in pixels; position embeddings of another size are resampled by timm.
        arguments: of the architecture.
        cache: folder for the download.

    Raises:
        InputError: unknown name, or the hub does not answer or does not have the weights.
    """
    classes = pretrained_classes(architecture)
    origin = Timm(architecture)
    origin.check_arguments(arguments)
    sized = origin.with_size(input_size, arguments)
    try:
        _ask_hub(architecture)
        network = timm.create_model(architecture, pretrained=True, num_classes=classes, cache_dir=cache, **sized)
    except Exception as error:  # noqa: BLE001  what a download raises depends on the network, the hub and the file
        reason = quoted(error, named=True)
        raise InputError(
            f"the weights of {architecture!r} cannot be fetched: {reason}; without the hub, put the file on disk and "
            "name it in the zoo (weights: FILE)"
        ) from None
    return dict(network.state_dict())


def convert_published(
    architecture: str, classes: int, input_size: int, arguments: dict[str, Any], state: Mapping[str, Any]
) -> dict[str, Tensor] | None:
    """A published state after timm's own conversion (renamed keys, resampled positions); None if that fails.

    Args:
        architecture, classes, input_size, arguments: as `create_network`.
        state: as published by the architecture's authors, or as a file of the hub holds it.
    """
    origin = Timm(architecture)
    origin.check_arguments(arguments)
    sized = origin.with_size(input_size, arguments)
    if not state:
        return None  # timm would take an empty state for none, and ask the hub
    overlay = {"state_dict": dict(state), "num_classes": classes}
    try:
        network = timm.create_model(
            architecture, pretrained=True, num_classes=classes, pretrained_cfg_overlay=overlay, **sized
        )
    except Exception:  # noqa: BLE001  a conversion of what is no such state may fail in any way
        return None
    return dict(network.state_dict())


def convert_all(
    architecture: str, classes: int, input_size: int, arguments: dict[str, Any], states: Mapping[str, Mapping[str, Any]]
) -> dict[Place, dict[str, Tensor]]:
    """The states of a file (`states.read_states`) that timm can convert, converted; see `convert_published`."""
    found = {
        (name, ""): convert_published(architecture, classes, input_size, arguments, state)
        for name, state in states.items()
    }
    return {place: state for place, state in found.items() if state is not None}


def _ask_hub(architecture: str) -> None:
    """Ask the hub once: if it does not answer, timm would keep asking for minutes."""
    repository = Timm(architecture).config().hf_hub_id
    if repository:
        with suppress(HfHubHTTPError):  # it answers; fetching shows whether it has the file
            get_hf_file_metadata(hf_hub_url(repository, "model.safetensors"))


def classifier_parameters(network: nn.Module) -> set[str]:
    """Names of the weights of a network's classifier."""
    head: Any = network.get_classifier()  # type: ignore[operator]  # timm's networks have it
    parts = head if isinstance(head, tuple) else (head,)
    return {
        f"{name}.{key}" if name else key
        for name, module in network.named_modules()
        if any(module is part for part in parts)
        for key in module.state_dict()
    }
