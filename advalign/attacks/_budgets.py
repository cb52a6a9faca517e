"""How thorough a search for minimum norms is, and how its items move (docs/fmn-fast.md)."""

from typing import NamedTuple

from advalign.attacks._plane_steps import Schedule


class Budget(NamedTuple):
    """How much an image may cost: classes to screen where these are few, starts, reheats at most."""

    classes: int
    starts: int
    reheats: int


REHEAT, REFINE, SCREEN, DESCENT = range(4)  # turns: smaller is sooner; from DESCENT on, one for each pair of starts
SCHEDULES = (
    Schedule(16, shares=(0.3, 0.03), temperatures=(0.03, 0.0075), overshoot=0.005),
    Schedule(24, shares=(0.6, 0.03)),
    Schedule(4, shares=(1.0, 0.5), overshoot=0.1),
    Schedule(36, shares=(0.6, 0.05), temperatures=(0.1, 0.0075)),
    Schedule(36, shares=(0.6, 0.05), temperatures=(0.05, 0.005)),
)
BUDGETS = {
    "fast": Budget(classes=4, starts=1, reheats=1),
    "standard": Budget(classes=4, starts=2, reheats=3),
    "thorough": Budget(classes=5, starts=4, reheats=6),
    "audited": Budget(classes=9, starts=4, reheats=6),
}
