"""The dashboard of rounds: tables, each with its charts and its CSV."""

from collections.abc import Callable

from training.dashboard.children import children_table
from training.dashboard.experts import win_rate_table
from training.dashboard.lines import Line, lines
from training.dashboard.measured import measures_table
from training.dashboard.raised import alarms_table
from training.dashboard.scale import scale_table
from training.dashboard.trusted import trust_table, work_table
from training.tables import Table

# by the name in addresses, in the page's order
TABLES: dict[str, Callable[[list[Line]], Table]] = {
    "win-rates": win_rate_table,
    "children": children_table,
    "measures": measures_table,
    "alarms": lambda found: alarms_table(),
    "scale": lambda found: scale_table(),
    "trust": lambda found: trust_table(),
    "work": lambda found: work_table(),
}


def dashboard() -> list[Table]:
    """All tables."""
    found = lines()
    return [table(found) for table in TABLES.values()]


def one_table(key: str) -> Table:
    """One of them. Raises KeyError."""
    return TABLES[key](lines())
