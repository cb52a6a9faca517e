"""As `cifar-corrupted`, with what the authors' script means to do where it does something else."""

from typing import ClassVar

from advalign.data.sets.cifar_corrupted import CorruptedCifar


class CorruptedCifarAsMeant(CorruptedCifar):
    """Glass exchanges pixels in all directions instead of copying them, and frost is one of six pictures, not five."""

    as_meant: ClassVar[bool] = True
