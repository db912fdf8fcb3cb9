"""The client of the API: every operation as an async method, under the API's own parameter names.

Dicts come back as the API sends them (ids in `_id`); unknown fields are kept, and no field is required.
"""

from __future__ import annotations

from tl_data.client.analyze import AnalyzeMethods
from tl_data.client.analyze_tasks import AnalyzeTaskMethods
from tl_data.client.assets import AssetMethods
from tl_data.client.embed import EmbedMethods
from tl_data.client.entities import EntityMethods
from tl_data.client.indexes import IndexMethods
from tl_data.client.remote import RemoteMethods
from tl_data.client.search import SearchMethods
from tl_data.client.tasks import TaskMethods


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
    """The API at one address, with one key, inside one event loop.

        async with Client(settings, base_url=SERVICE_URL) as client:
            async for index in client.list_indexes():
                ...

    Every method raises the classes of `tl_data.errors`; None means "not given" for every option.
    """
