"""The index of a lake's vectors: exact on few, followed through changes, built anew for another model."""

from __future__ import annotations

from pathlib import Path

import duckdb
import numpy as np
import pytest

import tl_data
from tests.support.export_lake import needs, small_lake, vector, write_vectors
from tl_data.errors import SchemaMismatch, SettingsError
from tl_data.lake.base import rows_of
from tl_data.lake.lake import Lake
from tl_data.lake.schemas import VECTORS
from tl_data.vectors import RESULT_COLUMNS, VectorIndex, current, index, nearest

pytestmark = needs("usearch", "index")


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return small_lake(tmp_path / "lake")


def _best(found: VectorIndex, asked: list[float], **how: str) -> tuple[str, float, float]:
    row = found.nearest(asked, 1, **how).to_pylist()[0]
    return row["video_id"], row["start_sec"], row["similarity"]


def test_it_finds_and_is_kept(lake: Lake) -> None:
    assert current(lake) is None
    made = tl_data.vectors.index(lake.folder)
    assert len(made) == 9
    assert _best(made, vector(4)) == ('v-it\'s "odd" 😀.mp4', 10.0, pytest.approx(1.0, abs=0.01))
    everything = made.nearest(vector(4), 100)
    assert everything.num_rows == 9
    said = everything.column("similarity").to_pylist()
    assert said == sorted(said, reverse=True)
    again = current(lake)
    assert again is not None
    assert again.state == made.state
    assert index(lake).state.generation == 1
    assert made.nearest(vector(4), 3, option="audio").num_rows == 0
    assert made.nearest(vector(4), 3, scope="clip", option="visual").num_rows == 3


def test_it_follows_the_lake(lake: Lake) -> None:
    before = index(lake)
    rows = [("v-news.mp4", n * 10.0, n * 10.0 + 10, vector(n)) for n in range(3)]
    write_vectors(lake, [*rows[:2], ("v-news.mp4", 20.0, 30.0, vector(77)), ("v-new", 0.0, 9.0, vector(88))])
    assert current(lake) is None
    after = index(lake)
    assert (len(before), len(after)) == (9, 4)
    assert _best(after, vector(77))[:2] == ("v-news.mp4", 20.0)
    assert _best(after, vector(88))[:2] == ("v-new", 0.0)
    assert after.nearest(vector(5), 10).num_rows == 4
    assert _best(before, vector(5))[:2] == ('v-it\'s "odd" 😀.mp4', 20.0)  # it stays what it was


def test_few_changes_do_not_rebuild_the_index(lake: Lake) -> None:
    rows = [("v", float(n), n + 1.0, vector(n)) for n in range(200)]
    write_vectors(lake, rows)
    index(lake)
    write_vectors(lake, [*rows[20:], ("v", 900.0, 901.0, vector(900))])
    changed = index(lake)
    assert (changed.state.next_label, changed.state.removed, len(changed)) == (201, 20, 181)
    assert _best(changed, vector(900))[1] == 900.0
    write_vectors(lake, rows[150:])
    rebuilt = index(lake)
    assert (rebuilt.state.next_label, rebuilt.state.removed, len(rebuilt)) == (50, 0, 50)
    assert len(list((Path(lake.folder) / "_index" / "vectors").glob("*.usearch"))) == 1


def test_another_model_rebuilds_the_index(lake: Lake) -> None:
    index(lake)
    row = {
        **{"video_id": "v", "start_sec": 0.0, "end_sec": 1.0, "embedding_scope": "clip"},
        **{"embedding_option": "visual", "model": "other-1", "dimension": 4, "vector": vector(3, 4)},
    }
    lake.table(VECTORS).replace(rows_of(VECTORS, [row]))
    made = index(lake)
    assert (made.model, made.dimension, len(made)) == ("other-1", 4, 1)
    with pytest.raises(SchemaMismatch):
        made.nearest(vector(4))


def test_bad_vectors_are_left_out(lake: Lake) -> None:
    nan = [float("nan"), *vector(1)[1:]]
    rows = [
        ("v", 0.0, 1.0, vector(1)),
        ("v", 1.0, 2.0, nan),
        ("v", 2.0, 3.0, [0.0] * 8),
        ("v", 3.0, 4.0, None),
    ]
    write_vectors(lake, [*rows, ("v", 4.0, 5.0, vector(1, 9))])
    made = index(lake)
    assert (len(made), made.state.skipped) == (1, 4)
    write_vectors(lake, [])
    assert index(lake).nearest(vector(1), 5).num_rows == 0


@pytest.mark.parametrize("asked", [[0.0] * 8, [float("inf")] * 8, [1.0] * 7])
def test_a_question_without_a_direction_is_refused(lake: Lake, asked: list[float]) -> None:
    with pytest.raises(SchemaMismatch):
        index(lake).nearest(asked)


def test_where_it_lies(lake: Lake, tmp_path: Path) -> None:
    index(lake, folder=str(tmp_path / "elsewhere"))
    assert (tmp_path / "elsewhere" / "index.json").is_file()
    with pytest.raises(SettingsError):
        index(str(tmp_path))


def test_a_damaged_state_is_rebuilt(lake: Lake) -> None:
    index(lake)
    (Path(lake.folder) / "_index" / "vectors" / "index.json").write_text("{")
    assert current(lake) is None
    assert len(index(lake)) == 9


def test_nearest_is_exact_and_uses_the_index_when_it_is_there(lake: Lake) -> None:
    found = nearest(lake, vector(4), 3)
    assert found.column_names == [*RESULT_COLUMNS, "similarity"]
    best = found.to_pylist()[0]
    assert (best["video_id"], best["start_sec"]) == ('v-it\'s "odd" 😀.mp4', 10.0)
    assert best["similarity"] == pytest.approx(1.0, abs=1e-6)  # exact: the index rounds to bfloat16
    assert nearest(lake, vector(4), 100).num_rows == 9
    assert nearest(lake, vector(4), 3, option="audio").num_rows == 0
    assert nearest(lake, vector(4), 3, scope="clip", option="visual").num_rows == 3
    exact = nearest(lake, vector(123), 5).column("similarity").to_pylist()
    indexed = index(lake).nearest(vector(123), 5).column("similarity").to_pylist()
    assert nearest(lake, vector(123), 5).column("similarity").to_pylist() == indexed != exact
    assert indexed == pytest.approx(exact, abs=0.01)
    write_vectors(lake, [("v-new", 0.0, 9.0, vector(88))])  # the index is out of date: exact again
    assert [row["video_id"] for row in nearest(lake, vector(88), 3).to_pylist()] == ["v-new"]


def test_nearest_in_sql(lake: Lake) -> None:
    with duckdb.connect() as con:
        tl_data.register(con)
        sql = f"FROM tl_nearest('{lake.folder}', ?::FLOAT[], k := 2, scope := 'clip')"
        expected = nearest(lake, vector(4), 2, scope="clip").to_pylist()
        assert con.execute(sql, [vector(4)]).fetchall() == [tuple(row.values()) for row in expected]
        absent = con.execute(f"FROM tl_nearest('{lake.folder}', NULL)").fetchall()
        assert absent == []
        with pytest.raises(duckdb.Error, match="dimensions"):
            con.execute(f"FROM tl_nearest('{lake.folder}', [1.0, 2.0])").fetchall()


def test_recall(lake: Lake) -> None:
    draw = np.random.default_rng(5)
    made = draw.standard_normal((2000, 32), dtype=np.float32)
    write_vectors(lake, [("v", float(n), n + 1.0, row) for n, row in enumerate(made.tolist())])
    found = index(lake)
    unit = made / np.linalg.norm(made, axis=1, keepdims=True)
    hits = 0
    for asked in draw.standard_normal((50, 32), dtype=np.float32):
        true = {float(n) for n in np.argsort(-(unit @ asked))[:10]}
        hits += len(true & {*found.nearest(asked.tolist(), 10).column("start_sec").to_pylist()})
    assert hits / 500 >= 0.98
