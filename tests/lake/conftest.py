"""Fixtures that these tests share with tests/pipeline."""

from tests.pipeline.conftest import make_job, profile, shared_engine

__all__ = ["make_job", "profile", "shared_engine"]
