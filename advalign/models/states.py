"""Foreign files of weights: read without unpickling code, and matched to the names that a network has."""

import warnings
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from advalign.errors import DataError, quoted, shown
from advalign.progress import say
from advalign.regular_files import look_at, open_file

STATISTICS = ("running_mean", "running_var")  # ends of names: of a batch norm
COUNTER = ".num_batches_tracked"  # ends of names: of a batch norm, not in files of PyTorch before 0.4.1
PREFERRED = ("state_dict_ema", "model_ema", "state_dict", "model")
"""Names under which training programs keep weights, in the order in which timm (1.0) looks for them."""
Place = tuple[str, str]  # of a state in a file: its name there, and the prefix of the tensors' names
SUFFIXES = (".safetensors", ".pth", ".pt", ".ckpt")


def read_states(file: Path) -> dict[str, Mapping[str, Any]]:
    """Read a foreign file of weights without unpickling code: its mappings that may be a state dictionary.

    Args:
        file: .safetensors, or what torch.save wrote (.pth, .pt, .ckpt, ...).

    Returns:
        Name in the file -> mapping, in timm's order of preference (`PREFERRED`); "" is the file as a whole.

    Raises:
        DataError: missing, truncated, or a pickle that holds more than tensors and plain values.
    """
    if not file.is_file():
        others = ", ".join(SUFFIXES[1:])
        raise DataError(f"{file} is missing (or {others}): put the weights there, or name another place in the zoo")
    try:
        if file.suffix == ".safetensors":
            return {"": load_file(file)}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # on old pickles; what is wrong with one is said below
            content = torch.load(file, map_location="cpu", weights_only=True)
    except UnpicklingError:
        objects = _pickled_objects(file)
        held = f"holds pickled objects ({shown(objects)})" if objects else "is damaged or holds pickled objects"
        code = (
            f"{held} as well as tensors and is refused: if you trust it, save its state dictionary alone "
            "(torch.save(state, FILE), or safetensors) and name that"
        )
        raise DataError(f"{file} {_unlike_its_name(file) or code}") from None
    except Exception as error:  # noqa: BLE001  what a damaged file makes its reader raise depends on the damage
        what = _unlike_its_name(file) or f"cannot be read as weights: {quoted(error, named=True)}; fetch it again"
        raise DataError(f"{file} {what}") from None
    if not isinstance(content, Mapping):
        raise DataError(f"{file} holds a {type(content).__name__}, not a state dictionary")
    inner = {str(name): value for name, value in content.items() if isinstance(value, Mapping)}
    preferred = {name: inner[name] for name in PREFERRED if name in inner}
    return {"": content, **preferred, **inner}


def _pickled_objects(file: Path) -> list[str]:
    """Names of the classes and functions in a file of torch.save that weights do not need; none where it is damaged."""
    try:
        return torch.serialization.get_unsafe_globals_in_checkpoint(file)
    except Exception:  # noqa: BLE001  not a whole file of torch.save's present format
        return []


def _unlike_its_name(file: Path) -> str:
    """What a file is, and what to do, if it is not what the end of its name says; nothing if that is not the fault."""
    with open_file(file, DataError) as opened:
        start = opened.read(16)
    if file.suffix == ".safetensors" and start.startswith(b"PK"):
        return "was written by torch.save: end its name in .pth"
    if file.suffix != ".safetensors" and start[8:10] == b'{"':
        return "is in the format of safetensors: end its name in .safetensors"
    return look_at(file, DataError)


def matching_state(
    states: Mapping[str, Mapping[str, Any]], wanted: Mapping[str, Any], source: str
) -> dict[str, Tensor]:
    """The tensors of the wanted names, without the common prefix that wrappers left (module.model., ...).

    Args:
        states: mappings to search (`read_states`).
        wanted: names without prefix.
        source: the file's name in errors.

    Raises:
        DataError: no mapping holds all wanted names under one prefix, or it holds others under that prefix; or several
            hold them with other values and none is preferred.
    """
    first = next(iter(wanted))
    closest: tuple[int, str] = (len(wanted) + 1, "")
    fitting: dict[Place, dict[str, Tensor]] = {}
    for place, state in states.items():
        names = [name for name, value in state.items() if isinstance(name, str) and isinstance(value, Tensor)]
        prefixes = {name.removesuffix(first) for name in names if name.endswith(first)} | {""}
        for prefix in sorted(prefixes, key=lambda text: (len(text), text)):
            found = {name.removeprefix(prefix): state[name] for name in names if name.startswith(prefix)}
            missing = [k for k in wanted if k not in found and not k.endswith(COUNTER)]
            strange = [k for k in found if k not in wanted]
            if not missing and not strange:
                fitting[place, prefix] = found
            closest = min(closest, (len(missing), f"lacks {missing[:2]}" if missing else f"also has {strange[:2]}"))
    if not fitting:
        raise DataError(f"{source} is of another architecture: of {len(wanted)} tensors it {closest[1]}: fetch others")
    return fitting[chosen(fitting, source)]


def chosen(fitting: Mapping[Place, Mapping[str, Tensor]], source: str) -> Place:
    """Which of the states that fit is taken: the averaged one before the last one, as timm does, and it is said.

    Args:
        fitting: at least one state.
        source: the file's name in messages.

    Raises:
        DataError: they differ, and timm prefers none of them.
    """
    first, *others = fitting
    different = [place for place in others if not _equal(fitting[first], fitting[place])]
    if not different:
        return first
    found = " and ".join(repr(name + (f" ({prefix})" if prefix else "")) for name, prefix in (first, *different))
    name = first[0]
    if name not in PREFERRED or any(other == name for other, _ in different):
        raise DataError(f"{source} holds several weights that fit, {found}: save alone those that you mean")
    _say_chosen(f"{source} holds weights under {found}: those under {name!r} are taken, as timm does")
    return first


def _equal(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    names = [name for name in one if not name.endswith(COUNTER)]
    return all(one[name].shape == other[name].shape and bool(one[name].eq(other[name]).all()) for name in names)


@cache
def _say_chosen(line: str) -> None:
    """Say it once."""
    say(line)


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
