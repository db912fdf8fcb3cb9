"""The client of the API: each operation is an async method whose parameters have the API's names.

Methods return the API's objects as dicts (ids in `_id`). Unknown fields are kept, and no field is required.
`OPERATIONS` lists the API's operations, each with the method that calls it.
"""

from __future__ import annotations

from tl_data.client.analyze import AnalyzeMethods
from tl_data.client.analyze_tasks import AnalyzeTaskMethods
from tl_data.client.assets import AssetMethods
from tl_data.client.embed import EmbedMethods
from tl_data.client.entities import EntityMethods
from tl_data.client.indexes import IndexMethods
from tl_data.client.remote import Remote, RemoteMethods
from tl_data.client.request import OPERATIONS, Operation
from tl_data.client.search import SearchMethods
from tl_data.client.tasks import TaskMethods

__all__ = ["OPERATIONS", "Client", "Operation", "Remote"]


class Client(
    IndexMethods,
    AssetMethods,
    TaskMethods,
    SearchMethods,
    AnalyzeMethods,
    AnalyzeTaskMethods,
    EmbedMethods,
    EntityMethods,
    RemoteMethods,
):
    """A client for one base URL and one API key, used inside one event loop.

        async with Client(settings, base_url=SERVICE_URL) as client:
            async for index in client.list_indexes():
                ...

    Methods raise the exceptions of `tl_data.errors`. None means "not given" for every option.
    """
