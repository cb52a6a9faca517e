"""What a validation found: how many expectations were checked, and which of them failed, with every failing row."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Failure:
    """One expectation that does not hold.

    Attributes:
        why: the column's meaning and the expected values.
        unexpected: number of failing rows; 1 where the expectation is on the table as a whole.
        examples: the first failing rows in words; for a table as a whole, what was observed.
        rows: all failing rows: the column that names the row and the columns that were checked, with their values.
    """

    table: str
    expectation: str
    column: str
    why: str
    unexpected: int
    examples: tuple[str, ...]
    rows: tuple[dict[str, Any], ...] = ()

    @property
    def told(self) -> list[str]:
        """The examples, and the number of further failing rows."""
        more = len(self.rows) - len(self.examples)
        return [*self.examples, *([f"+ {more} more"] if more > 0 else [])]


@dataclass(frozen=True)
class Validation:
    """Result of all suites: how many expectations were checked per table, and which failed."""

    checked: dict[str, int]
    failures: tuple[Failure, ...]

    @property
    def success(self) -> bool:
        """Whether everything holds."""
        return not self.failures

    def as_metrics(self) -> dict[str, Any]:
        """Plain values for the JSON that DVC shows as a metric: counts and examples."""
        full = self.as_json()
        for failure in full["failures"]:
            del failure["rows"]
        return full

    def as_json(self) -> dict[str, Any]:
        """Plain values: the metrics, with every failing row."""
        failed = {table: sum(f.table == table for f in self.failures) for table in self.checked}
        return {
            "success": int(self.success),
            **{table: {"checked": self.checked[table], "failed": failed[table]} for table in self.checked},
            "failures": [dict(vars(failure)) for failure in self.failures],
        }
