"""Origins of networks, one file each: timm (names without prefix), torchvision, your own code."""

from advalign.errors import InputError, shown
from advalign.models.origins.base import Origin
from advalign.models.origins.cifar import NETWORKS, Cifar
from advalign.models.origins.module import Handed
from advalign.models.origins.python import OwnCode
from advalign.models.origins.timm import Timm
from advalign.models.origins.torchvision import Torchvision
from advalign.names import ARCHITECTURE_RULE, is_architecture

ORIGINS: dict[str, type[Origin]] = {"torchvision": Torchvision, "python": OwnCode, "module": Handed}


def origin_of(architecture: str) -> Origin:
    """The origin of an architecture, with the architecture in it.

    Args:
        architecture: a timm name, torchvision:NAME or python:package.module:function.

    Raises:
        InputError: the name has no such form.
    """
    prefix, mark, name = architecture.partition(":")
    if not mark:
        return Cifar(architecture) if architecture in NETWORKS else Timm(architecture)
    if prefix not in ORIGINS or not is_architecture(architecture):
        raise InputError(f"{shown(architecture)} cannot name an architecture: {ARCHITECTURE_RULE}")
    return ORIGINS[prefix](name)
