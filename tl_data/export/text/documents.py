"""The texts of a lake as LangChain documents and LlamaIndex nodes.

    from tl_data.export.text.documents import langchain_documents
    store.add_documents(langchain_documents("lake", "chapters"))

Each document has a stable `id`. Its metadata has `video_id`, `url`, `start_sec` and `end_sec`, which
lead back to the video.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Any

from tl_data.errors import SettingsError
from tl_data.export.rows import TableRows
from tl_data.export.sink import import_client
from tl_data.lake.lake import Lake, open_lake
from tl_data.lake.schemas import VIDEOS

if TYPE_CHECKING:
    from langchain_core.documents import Document
    from llama_index.core.schema import TextNode

EXTRA = "export-text"
#: Table -> the columns whose values form the text of a document, joined by line breaks.
TEXTS = {
    "clips": ("transcription",),
    "chapters": ("title", "summary"),
    "summaries": ("title", "summary"),
    "alerts": ("transcription",),
}


def documents(lake: Lake | str, table: str = "chapters") -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Id, text and metadata of each row that has a text. Metadata has texts, numbers and lists of texts.

    Raises:
        SettingsError: the table has no text.
    """
    if table not in TEXTS:
        raise SettingsError(f"table {table!r} has no text; tables with text: {', '.join(TEXTS)}")
    opened = open_lake(lake)
    videos = opened.read(VIDEOS, ["video_id", "source_key", "url", "canonical_url"]).to_pylist()
    by_id = {
        video["video_id"]: video for video in sorted(videos, key=lambda v: v["source_key"], reverse=True)
    }
    for rows in TableRows(opened, table).batches():
        for row in rows.rows.to_pylist():
            text = "\n".join(row[column] for column in TEXTS[table] if row[column])
            if text:
                video = by_id.get(row["video_id"], {})
                metadata = {n: v for n, v in row.items() if n not in (*TEXTS[table], "id", "thumbnail_url")}
                metadata |= {"table": table, "source_key": video.get("source_key")}
                metadata["url"] = video.get("canonical_url") or video.get("url")
                yield row["id"], text, {n: _plain(v) for n, v in metadata.items() if v is not None}


def langchain_documents(lake: Lake | str, table: str = "chapters") -> list[Document]:
    """The rows of a table as `langchain_core.documents.Document`.

    Raises:
        MissingExtra: langchain-core is not installed.
    """
    [library] = import_client(EXTRA, "langchain_core.documents")
    return [library.Document(id=i, page_content=t, metadata=m) for i, t, m in documents(lake, table)]


def llama_index_nodes(lake: Lake | str, table: str = "chapters") -> list[TextNode]:
    """The rows of a table as `llama_index.core.schema.TextNode`.

    Raises:
        MissingExtra: llama-index-core is not installed.
    """
    [library] = import_client(EXTRA, "llama_index.core.schema")
    return [library.TextNode(id_=i, text=t, metadata=m) for i, t, m in documents(lake, table)]


def _plain(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else value
