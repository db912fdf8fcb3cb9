"""JSON Lines and documents."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import tl_data
from tests.support.export_lake import needs, write_chapters
from tl_data.errors import SettingsError
from tl_data.export.text.documents import documents, langchain_documents, llama_index_nodes
from tl_data.lake.lake import Lake


def test_json_lines(lake: Lake, tmp_path: Path) -> None:
    file = tmp_path / "deep" / "chapters.jsonl"
    target = f"jsonl://{file}"
    [first] = tl_data.export(lake.folder, target, table="chapters")
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    assert (first.upserted, len(rows), len({row["id"] for row in rows})) == (9, 9, 9)
    assert rows[0]["title"] == "Part 0 <b>"
    inode = file.stat().st_ino
    [same] = tl_data.export(lake.folder, target, table="chapters")
    assert (same.unchanged, file.stat().st_ino) == (9, inode)

    write_chapters(lake, [("v-talk.mp4", 0.0, float("nan"), "odd", None)])
    [fewer] = tl_data.export(lake.folder, target, table="chapters")
    assert (fewer.upserted, fewer.deleted) == (1, 9)
    [row] = [json.loads(line) for line in file.read_text().splitlines()]
    assert row["end_sec"] is None


def test_documents(lake: Lake) -> None:
    found = list(documents(lake, "chapters"))
    assert len(found) == 9
    ids, texts, about = zip(*found, strict=True)
    assert len({*ids}) == 9
    assert texts[0] == "Part 0 <b>\nWhat happens"
    assert about[0]["url"] == "https://media.example/news.mp4"
    assert (about[1]["start_sec"], about[1]["end_sec"]) == (20.0, 40.0)
    assert len(list(documents(lake, "summaries"))) == 3
    with pytest.raises(SettingsError):
        list(documents(lake, "vectors"))


@needs("langchain_core", "export-text")
def test_documents_of_langchain(lake: Lake) -> None:
    from langchain_core.documents import Document

    found = langchain_documents(lake, "clips")
    assert all(isinstance(document, Document) for document in found)
    assert len({document.id for document in found}) == 9
    assert found[0].metadata["source_key"] == "news.mp4"


@needs("llama_index", "export-text")
def test_nodes_of_llama_index(lake: Lake) -> None:
    found = llama_index_nodes(lake, "clips")
    assert [n.get_content() for n in found][:1] == ["words 0 of v-news.mp4"]
    assert found[0].metadata["start_sec"] == 0.0
