"""Each question of the cookbook over a small lake, against the answer that was computed by hand.

What a search, an extraction and a question's vector give stands here, too: the SQL is tested, not the engine.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import duckdb
import pytest

import tl_data
from tl_data.settings import Settings

COOKBOOK = Path(__file__).parents[2] / "sql" / "cookbook"

SOUP, SAFETY, BIKE = "http://x/soup.mp4", "http://x/safety.mp4", "http://x/bike.mp4"

#: Two-dimensional vectors. Those of whole videos and of sound must not come among the clips' pictures.
LAKE = f"""
CREATE TABLE videos (video_id TEXT, url TEXT, index_id TEXT, duration_sec DOUBLE, indexed_at TIMESTAMPTZ);
INSERT INTO videos VALUES
  ('a', '{SOUP}', 'i1', 600, '2026-11-01 12:00:00Z'), ('b', '{SAFETY}', 'i1', 1200, '2026-11-02 12:00:00Z'),
  ('c', '{BIKE}', 'i2', 1800, '2026-11-02 12:00:00Z');
CREATE TABLE clips (video_id TEXT, start_sec DOUBLE, transcription TEXT);
INSERT INTO clips VALUES ('a', 0, 'The battery, the battery'), ('a', 6, 'soup'), ('b', 0, NULL),
  ('c', 0, 'Battery'), ('c', 6, 'a battery');
CREATE TABLE vectors (video_id TEXT, start_sec DOUBLE, end_sec DOUBLE, embedding_option TEXT,
  embedding_scope TEXT, vector FLOAT[], model TEXT);
INSERT INTO vectors VALUES
  ('a', 0, 6, 'visual', 'clip', [1, 0], 'marengo2.7'), ('a', 6, 12, 'visual', 'clip', [0, 1], 'marengo2.7'),
  ('b', 0, 6, 'visual', 'clip', [0.6, 0.8], 'marengo3.0'),
  ('c', 0, 6, 'visual', 'clip', [1, 0], 'marengo3.0'),
  ('a', 0, 600, 'visual', 'video', [0.8, 0.6], 'marengo2.7'),
  ('b', 0, 1200, 'visual', 'video', [1, 0], 'marengo3.0'),
  ('c', 0, 1800, 'visual', 'video', [1, 0], 'marengo3.0'),
  ('a', 0, 6, 'audio', 'clip', [0, 1], 'marengo2.7');
CREATE TABLE chapters (video_id TEXT, chapter_number BIGINT, start_sec DOUBLE, end_sec DOUBLE, title TEXT,
  summary TEXT);
INSERT INTO chapters VALUES ('a', 0, 0, 75.5, 'Intro', 'first'), ('a', 1, 75.5, 600, 'Cook', 'second');
CREATE TABLE summaries (video_id TEXT, title TEXT, summary TEXT);
INSERT INTO summaries VALUES ('a', 'Soup', 'A soup is made.');
CREATE TABLE errors (class TEXT, code TEXT, retryable BOOLEAN, message TEXT);
INSERT INTO errors VALUES ('NotFound', 'gone', false, 'no b'), ('NotFound', 'gone', false, 'no a'),
  ('RateLimited', 'slow', true, 'later');
CREATE TABLE hits (question TEXT, video_id TEXT, start_sec DOUBLE, end_sec DOUBLE, rank BIGINT,
  confidence TEXT);
INSERT INTO hits VALUES ('battery 90 miles', 'c', 12.5, 18, 1, 'high'), ('emergency', 'b', 3, 9, 1, 'medium'),
  ('tomato soup', 'a', 0, 6, 1, 'high'), ('tomato soup', 'a', 6, 12, 2, 'high'),
  ('a red object on a black background', 'b', 0, 6, 1, 'high'),
  ('a red object on a black background', 'a', 6, 12, 2, 'high');
CREATE OR REPLACE TEMP MACRO tl_search(index_id, query_text, max_hits := 10, threshold := NULL) AS TABLE
  SELECT video_id, start_sec, end_sec, rank, confidence FROM hits WHERE question = query_text;
CREATE OR REPLACE TEMP MACRO tl_embed_text(text) AS CAST([1, 0] AS FLOAT[]);
CREATE OR REPLACE TEMP MACRO tl_extract(video, prompt, json_schema, index_id := NULL) AS
  concat('{{"title": "Title of ', video, '", "duration": 2.5}}');
"""

ANSWERS: dict[str, list[tuple[Any, ...]]] = {
    "01": [("battery 90 miles", BIKE, 12.5, 18.0, "high", f"{BIKE}#t=12")],
    "02": [(SOUP, 1, 6.0), (BIKE, 2, 4.0), (SAFETY, 0, 0.0)],
    # For each clip of one video the best of the other: 0.6 and 0.8 for the soup beside the safety video.
    "03": [
        (BIKE, SOUP, 1.0),
        (BIKE, SAFETY, 0.6),
        (SAFETY, SOUP, 0.8),
        (SAFETY, BIKE, 0.6),
        (SOUP, SAFETY, 0.7),
        (SOUP, BIKE, 0.5),
    ],
    "04": [(SOUP, 0, "00:00", "Intro", "first"), (SOUP, 1, "01:15", "Cook", "second")],
    "05": [("emergency", SAFETY, 3.0, 9.0, "medium")],
    "06": [
        (date(2026, 11, 2), BIKE, 30.0, None, None),
        (date(2026, 11, 2), SAFETY, 20.0, None, None),
        (date(2026, 11, 1), SOUP, 10.0, "Soup", "A soup is made."),
    ],
    "07": [("i1", 2, 30.0, 1.26), ("i2", 1, 30.0, 1.26)],
    "08": [(SOUP, 0.0, BIKE, 0.0, 1.0)],
    "09": [
        ("tomato soup", 2, 1, 0.2),
        ("electric bicycle", 0, 0, 0.0),
        ("quantum physics", 0, 0, 0.0),
        ("safety helmet", 0, 0, 0.0),
    ],
    "10": [(SOUP, 0, "Intro", 5), (SOUP, 1, "Cook", 0)],
    # Ranks by words: safety 0 (1), soup 6 (2). By vectors: soup 0, bike 0, safety 0, soup 6.
    "11": [
        (SAFETY, 0.0, round(1 / 61 + 1 / 63, 5)),
        (SOUP, 6.0, round(1 / 62 + 1 / 64, 5)),
        (SOUP, 0.0, round(1 / 61, 5)),
        (BIKE, 0.0, round(1 / 62, 5)),
    ],
    "12": [("ann", 1, SAFETY, 0.7), ("ann", 2, BIKE, 0.5), ("bob", 1, SOUP, 0.7), ("bob", 2, BIKE, 0.6)],
    "13": [(url, f"Title of {v}", 2.5) for url, v in ((BIKE, "c"), (SAFETY, "b"), (SOUP, "a"))],
    "14": [("marengo2.7", 1, 10.0)],
    "15": [("NotFound", "gone", False, 2, "no a"), ("RateLimited", "slow", True, 1, "later")],
    "16": [
        (BIKE, 0.0, 6.0, "visual", 1.0),
        (SOUP, 0.0, 6.0, "visual", 1.0),
        (SAFETY, 0.0, 6.0, "visual", 0.6),
        (SOUP, 0.0, 6.0, "audio", 0.0),
        (SOUP, 6.0, 12.0, "visual", 0.0),
    ],
}


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as con:
        nowhere = Settings(base_url="http://127.0.0.1:9/v1.3", home=str(tmp_path_factory.mktemp("home")))
        tl_data.register(con, nowhere)
        con.execute("SET TimeZone = 'UTC'")
        con.execute(LAKE)
        yield con


@pytest.mark.parametrize("file", sorted(COOKBOOK.glob("*.sql")), ids=lambda f: f.stem)
def test_the_answer_is_the_one_computed_by_hand(file: Path, lake: duckdb.DuckDBPyConnection) -> None:
    rows = lake.execute(file.read_text(encoding="utf-8")).fetchall()
    plain = [tuple(float(v) if hasattr(v, "as_tuple") else v for v in row) for row in rows]
    assert [tuple(pytest.approx(v) if isinstance(v, float) else v for v in row) for row in plain] == ANSWERS[
        file.stem[:2]
    ]
