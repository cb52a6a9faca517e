"""Foreign files of weights: read without unpickling code, and matched to the names that a network has."""

import warnings
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from advalign.errors import DataError, quoted

STATISTICS = ("running_mean", "running_var")  # ends of names: of a batch norm
SUFFIXES = (".safetensors", ".pth", ".pt", ".ckpt")


def read_states(file: Path) -> list[Mapping[str, Any]]:
    """Read a foreign file of weights without unpickling code: its mappings that may be a state dictionary.

    Args:
        file: .safetensors, or what torch.save wrote (.pth, .pt, .ckpt, ...).

    Raises:
        DataError: missing, truncated, or a pickle that holds more than tensors and plain values.
    """
    if not file.is_file():
        others = ", ".join(SUFFIXES[1:])
        raise DataError(f"{file} is missing (or {others}): put the weights there, or name another place in the zoo")
    try:
        if file.suffix == ".safetensors":
            return [load_file(file)]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # on old pickles; what is wrong with one is said below
            content = torch.load(file, map_location="cpu", weights_only=True)
    except UnpicklingError:
        raise DataError(
            f"{file} is damaged or holds pickled objects as well as tensors and is refused: if you trust it, save its "
            "state dictionary alone (torch.save(state, FILE), or safetensors) and name that"
        ) from None
    except Exception as error:  # noqa: BLE001  what a damaged file makes its reader raise depends on the damage
        reason = quoted(error, named=True)
        raise DataError(f"{file} cannot be read as weights: {reason}; fetch it again") from None
    if not isinstance(content, Mapping):
        raise DataError(f"{file} holds a {type(content).__name__}, not a state dictionary")
    return [content, *(value for value in content.values() if isinstance(value, Mapping))]


def matching_state(states: list[Mapping[str, Any]], wanted: Mapping[str, Any], source: str) -> dict[str, Tensor]:
    """The tensors of the wanted names, without the common prefix that wrappers left (module.model., ...).

    Args:
        states: mappings to search (`read_states`).
        wanted: names without prefix.
        source: the file's name in errors.

    Raises:
        DataError: no mapping holds all wanted names under one prefix, or it holds others under that prefix.
    """
    first = next(iter(wanted))
    closest: tuple[int, str] = (len(wanted) + 1, "")
    for state in states:
        names = [name for name, value in state.items() if isinstance(name, str) and isinstance(value, Tensor)]
        for prefix in sorted({name.removesuffix(first) for name in names if name.endswith(first)} | {""}, key=len):
            found = {name.removeprefix(prefix): state[name] for name in names if name.startswith(prefix)}
            missing, strange = [k for k in wanted if k not in found], [k for k in found if k not in wanted]
            if not missing and not strange:
                return found
            closest = min(closest, (len(missing), f"lacks {missing[:2]}" if missing else f"also has {strange[:2]}"))
    raise DataError(f"{source} is of another architecture: of {len(wanted)} tensors it {closest[1]}: fetch others")


def check_kinds(state: Mapping[str, Tensor], wanted: Mapping[str, Tensor], source: str) -> None:
    """Refuse integers where a network has floating-point numbers: PyTorch would convert them silently.

    Raises:
        DataError: names the first tensor.
    """
    for name, value in wanted.items():
        if name in state and state[name].is_floating_point() != value.is_floating_point():
            raise DataError(
                f"{source}: {name} holds {state[name].dtype}, the network has {value.dtype}: save the weights as "
                "floating-point numbers"
            )


def check_finite(network: nn.Module, source: str) -> None:
    """Refuse weights that are not finite; a buffer other than a batch norm's statistics may hold infinities (masks).

    Raises:
        DataError: names the first tensor.
    """
    weights = {name for name, _ in network.named_parameters()}
    for name, value in network.state_dict().items():
        if not value.is_floating_point() or value.isfinite().all():
            continue
        if name in weights or name.endswith(STATISTICS) or value.isnan().any():
            raise DataError(f"{source}: {name} holds numbers that are not finite: fetch or train the weights again")
