"""The functions and listings of the catalog, by topic.

Importing this package fills `catalog.FUNCTIONS` and `catalog.LISTINGS`.
"""

from tl_data.catalog import FUNCTIONS, LISTINGS, find_function
from tl_data.functions import agg, analyze, embed, estimates, index, judge, listings, search

__all__ = [
    "FUNCTIONS",
    "LISTINGS",
    "agg",
    "analyze",
    "embed",
    "estimates",
    "find_function",
    "index",
    "judge",
    "listings",
    "search",
]
