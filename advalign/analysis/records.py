"""What the statistics return: frozen records; a statistic that cannot be computed is nan and `note` says why."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Spearman:
    """Rank correlation: rho in [-1, 1], two-sided p, exact p where pairs are few (else nan), n pairs."""

    rho: float
    p: float
    p_exact: float
    n: int
    note: str = ""


@dataclass(frozen=True)
class Quadratic:
    """y = c2 x^2 + c1 x + c0: `coefficients` are (c2, c1, c0), `r2` the share of variance explained, n points."""

    coefficients: tuple[float, float, float]
    r2: float
    n: int
    note: str = ""


@dataclass(frozen=True)
class Welch:
    """Two-sided Welch test of a against b: positive t and d mean that a is larger; df is fractional."""

    t: float
    df: float
    p: float
    d: float
    n1: int
    n2: int
    mean1: float
    mean2: float
    note: str = ""


@dataclass(frozen=True)
class Paired:
    """Two-sided paired tests of a against b: positive t, d_z and difference mean that a is larger; df = n - 1."""

    t: float
    df: float
    p: float
    wilcoxon_p: float
    d_z: float
    difference: float
    n: int
    note: str = ""
