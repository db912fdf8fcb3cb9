"""The declarations of the surface, by topic. Importing this package fills `catalog.FUNCTIONS`."""

from tl_data.functions import analyze, embed, index, search

__all__ = ["analyze", "embed", "index", "search"]
