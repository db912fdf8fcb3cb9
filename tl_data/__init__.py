"""Video as tables: clips, summaries and vectors from a column of video URLs."""

from tl_data._version import __version__

__all__ = ["__version__"]
