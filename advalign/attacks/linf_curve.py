"""Minimum linf norms, hence robust accuracy at every eps: the search of `fmn-fast`, with another norm.

What differs is the nearest point of a plane in the box, and the way towards it (_boundary.py, _plane_steps.py).
"""

from typing import Literal

from advalign.attacks.fmn_fast import FastMinimumNormSearch
from advalign.settings import Strict


class LinfCurve(FastMinimumNormSearch):
    """Minimum linf norms: robust accuracy at every eps, at a tenth of AutoAttack's passes at one."""

    class Settings(Strict):
        """How thorough: about 50, 100 or 200 passes per image."""

        norm: Literal["linf"] = "linf"
        budget: Literal["fast", "standard", "thorough"] = "standard"
