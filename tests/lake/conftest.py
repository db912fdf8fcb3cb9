"""Fixtures that these tests share with tests/pipeline."""

from tests.pipeline.conftest import make_job

__all__ = ["make_job"]
