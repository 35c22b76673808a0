"""What a campaign reports."""

from dataclasses import dataclass, field


@dataclass(slots=True)
class Report:
    """Rows to show, and all problems."""

    rows: list[tuple[str, str]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def row(self, what: str, count: float | str) -> None:
        self.rows.append((what, f"{count:,}" if isinstance(count, int) else str(count)))
