"""Paginated listings: the query parameters for page, sort order and filters, and the JSON of a page."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from starlette.datastructures import QueryParams

from tl_data.local.errors import invalid, one_of
from tl_data.local.server.forms import parse_number, parse_whole_number
from tl_data.local.storage.database import Row, Store, Where, stamp

MAX_PAGE_LIMIT = 50
SORTS = ("created_at", "updated_at")
LISTING_PARAMETERS = ("page", "page_limit", "sort_by", "sort_option")
HUGE = 1e15  # larger than any duration, size or frame rate, and exact in SQLite


@dataclass
class Listing:
    """The parameters of one request for a listing. `where` holds its filters."""

    page: int
    page_limit: int
    sort_by: str = "created_at"
    descending: bool = True
    where: list[Where] = field(default_factory=list)

    @classmethod
    def from_query(cls, query: QueryParams, sorts: tuple[str, ...] = SORTS) -> Listing:
        """Read the page number, page size and sort order.

        Raises:
            EngineError: parameter_invalid.
        """
        sort_by = query.get("sort_by") or "created_at"
        if sort_by not in sorts:
            raise one_of("sort_by", sorts, sort_by)
        option = query.get("sort_option") or "desc"
        if option not in ("asc", "desc"):
            raise one_of("sort_option", ("asc", "desc"), option)
        return cls(
            page=parse_whole_number("page", query.get("page") or "1", 1, 10**15),
            page_limit=parse_whole_number("page_limit", query.get("page_limit") or "10", 1, MAX_PAGE_LIMIT),
            sort_by=sort_by,
            descending=option == "desc",
        )

    def filter_texts(self, query: QueryParams, names: Mapping[str, str]) -> None:
        """Add filters for equal texts. `names` maps query parameters to columns."""
        self.where += [Where(column, "=", query[name]) for name, column in names.items() if query.get(name)]

    def filter_numbers(self, query: QueryParams, names: Collection[str]) -> None:
        """Add filters for numbers: `x=5`, `x[gte]=5`, `x[lte]=5`."""
        for name in names:
            for operator, value in _conditions(query, name, "="):
                self.where.append(Where(name, operator, parse_number(name, value, -HUGE, HUGE)))

    def filter_times(self, query: QueryParams, names: Collection[str]) -> None:
        """Add filters for times. `x=T` and `x[gte]=T` mean at or after T; `x[lte]=T` means at or before T."""
        for name in names:
            for operator, value in _conditions(query, name, "gte"):
                self.where.append(Where(name, operator, parse_time(name, value)))

    def filter_one_of(
        self, query: QueryParams, name: str, allowed: Collection[str], column: str | None = None
    ) -> None:
        """Add a filter for any of several values, which are repeated or separated by commas.

        Raises:
            EngineError: a value is not allowed.
        """
        if values := split_values(query.getlist(name)):
            if any(value not in allowed for value in values):
                raise one_of(name, allowed, values)
            self.where.append(Where(column or name, "in", values))

    def fetch_page(self, store: Store, table: str, show: Callable[[Row], dict[str, Any]]) -> dict[str, Any]:
        """Return the JSON of the page. `show` converts a row. A page after the last one is empty."""
        total = int(store.total(table, self.where))
        rows = store.rows(
            table,
            self.where,
            sort_by=self.sort_by,
            descending=self.descending,
            limit=self.page_limit,
            offset=(self.page - 1) * self.page_limit,
        )
        return {
            "data": [show(row) for row in rows],
            "page_info": {
                "limit_per_page": self.page_limit,
                "page": self.page,
                "total_page": -(-total // self.page_limit),
                "total_results": total,
            },
        }


def _conditions(query: QueryParams, name: str, default_operator: str) -> list[tuple[str, str]]:
    """The operators and values of a parameter. `name=value` has the default operator."""
    operators = ("gte", "lte", "gt", "lt")
    keys = {name: default_operator} | {f"{name}[{operator}]": operator for operator in operators}
    if unknown := [key for key in query if key.startswith(f"{name}[") and key not in keys]:
        raise invalid(name, f"For a range, use {', '.join(f'{name}[{o}]' for o in operators)}.", unknown[0])
    return [(operator, query[key]) for key, operator in keys.items() if query.get(key)]


def parse_time(name: str, value: str) -> str:
    """Convert an RFC 3339 time to the text format of the store, whose texts sort like times.

    Raises:
        EngineError: parameter_invalid.
    """
    try:
        # The `+` of an offset arrives as a space if it was not percent-encoded.
        time = datetime.fromisoformat(value.strip().replace(" ", "+" if "T" in value else "T"))
        return stamp((time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp())
    except (ValueError, OverflowError, OSError):
        raise invalid(
            name, "It must be a time in RFC 3339 format, such as 2025-06-18T09:48:41Z.", value
        ) from None


def split_values(values: list[str]) -> list[str]:
    """Split values that are repeated, separated by commas, or both."""
    return [part.strip() for value in values for part in value.split(",") if part.strip()]
