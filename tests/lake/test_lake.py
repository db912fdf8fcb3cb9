"""The lake: commits of whole groups, readable at every moment, in Parquet and in Delta."""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import struct
import time
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake
from deltalake.fs import DeltaStorageHandler

from tl_data.errors import LakeError, SchemaMismatch, SettingsError
from tl_data.lake import delta
from tl_data.lake.base import LakeTable, rows_of
from tl_data.lake.delta import delta_batches
from tl_data.lake.lake import Format, Lake
from tl_data.lake.parquet import ParquetTable
from tl_data.lake.schemas import CLIPS, ERRORS, SUMMARIES, TABLES, VECTORS

FORMATS: list[Format] = ["parquet", "delta"]
pytestmark = pytest.mark.parametrize("kind", FORMATS)


def clips(video: str, count: int, text: str = "") -> pa.Table:
    return rows_of(
        CLIPS,
        [
            {"video_id": video, "clip_number": n, "start_sec": n * 2.0, "transcription": text, "model": "m"}
            for n in range(count)
        ],
    )


def seen(lake: Lake) -> dict[str, list[int]]:
    """The numbers of the clips of each video."""
    found: dict[str, list[int]] = {}
    for row in lake.read(CLIPS).to_pylist():
        found.setdefault(row["video_id"], []).append(row["clip_number"])
    return {video: sorted(numbers) for video, numbers in found.items()}


def test_every_table_can_be_made_and_reads_back_in_its_own_types(tmp_path: Path, kind: Format) -> None:
    lake = Lake(str(tmp_path), kind)
    for declared in TABLES.values():
        assert not lake.exists(declared)
        assert lake.read(declared).schema == declared.schema
        table = lake.table(declared)
        assert lake.exists(declared)
        assert table.batches().read_all().schema == declared.schema
        assert table.batches(declared.by).read_all().num_rows == 0


def test_a_group_is_replaced_as_a_whole_and_again_without_effect(tmp_path: Path, kind: Format) -> None:
    lake = Lake(str(tmp_path), kind)
    table = lake.table(CLIPS)
    table.replace_groups(pa.concat_tables([clips("a", 5), clips("b", 2)]))
    for _ in range(2):
        table.replace_groups(pa.concat_tables([clips("a", 3), clips("c", 1)]))
        assert seen(lake) == {"a": [0, 1, 2], "b": [0, 1], "c": [0]}
    table.replace_groups(clips("d", 1), delete=[("b",), ("never there",)])
    table.replace_groups(clips("x", 0), delete=[("c",)])
    table.replace_groups(clips("x", 0))
    assert seen(Lake(str(tmp_path), kind)) == {"a": [0, 1, 2], "d": [0]}
    table.append(clips("a", 1))
    assert seen(lake)["a"] == [0, 0, 1, 2]
    table.replace(clips("z", 4))
    assert seen(lake) == {"z": [0, 1, 2, 3]}
    table.replace_groups(clips("y", 1))
    assert seen(lake) == {"z": [0, 1, 2, 3], "y": [0]}


def test_keys_may_hold_any_text(tmp_path: Path, kind: Format) -> None:
    prompts = [
        "it's",
        'say "hi"',
        "back\\slash",
        "two\nlines",
        "汉字 🎬",
        "'; DROP TABLE x; --",
        "{0} %s :a ?",
        "",
    ]
    table = Lake(str(tmp_path), kind).table(SUMMARIES)
    for text in ("old", "new"):
        rows = [{"video_id": "v", "prompt": p, "summary": text, "topics": ["a", text]} for p in prompts]
        table.replace_groups(rows_of(SUMMARIES, rows))
    back = table.batches().read_all().to_pylist()
    assert sorted(row["prompt"] for row in back) == sorted(prompts)
    assert {row["summary"] for row in back} == {"new"}
    assert all(row["topics"] == ["a", "new"] and row["hashtags"] is None for row in back)


def test_vectors_come_back_bit_by_bit(tmp_path: Path, kind: Format) -> None:
    values = np.random.default_rng(7).standard_normal(512).astype(np.float32)
    values[:5] = [np.nan, np.inf, -0.0, np.finfo(np.float32).tiny / 2, 3.4e38]
    table = Lake(str(tmp_path), kind).table(VECTORS)
    schema = VECTORS.schema
    row = {"video_id": "v", "start_sec": 0.1, "model": "m", "dimension": 512, "vector": values}
    table.replace_groups(pa.Table.from_pylist([row], schema))
    again = table.batches().read_all().column("vector")[0].values.to_numpy(zero_copy_only=False)
    assert again.tobytes() == values.tobytes()
    [(through_sql,)] = duckdb.sql(f"SELECT vector FROM {sql(table.sql_path(), kind)}").fetchall()
    assert struct.pack("512f", *through_sql) == values.tobytes()


def sql(where: str, kind: Format) -> str:
    if kind == "parquet":
        return f"'{where}'"
    files = ", ".join(f"'{uri}'" for uri in DeltaTable(where).file_uris())
    return f"read_parquet([{files}])"


def test_a_null_key_and_a_wrong_value_are_refused(tmp_path: Path, kind: Format) -> None:
    table = Lake(str(tmp_path), kind).table(CLIPS)
    with pytest.raises(SchemaMismatch, match="column video_id identifies rows and may not be NULL"):
        table.replace_groups(rows_of(CLIPS, [{"model": "m"}]))
    with pytest.raises(SchemaMismatch, match="table clips"):
        rows_of(CLIPS, [{"video_id": "v", "clip_number": "one"}])
    with pytest.raises(SchemaMismatch, match="column clip_number is string, but should be int64"):
        table.append(pa.table({**clips("v", 1).to_pydict(), "clip_number": ["1"]}))
    assert table.batches().read_all().num_rows == 0


def test_a_table_with_other_columns_is_refused_and_left_alone(tmp_path: Path, kind: Format) -> None:
    others = pa.table({"video_id": ["v"], "clip_number": pa.array([1], pa.int32()), "mine": [True]})
    if kind == "delta":
        write_deltalake(str(tmp_path / "clips"), others)
    else:
        (tmp_path / "clips").mkdir()
        pq.write_table(others, tmp_path / "clips" / "part-000000.parquet")
    with pytest.raises(SchemaMismatch) as refused:
        Lake(str(tmp_path), kind).table(CLIPS)
    for part in (
        "column clip_number is int32, but should be int64",
        "column start_sec (double) is missing",
        "clips",
    ):
        assert part in str(refused.value)


def test_a_table_changed_by_others_while_open(tmp_path: Path, kind: Format) -> None:
    """Two writers with tables open: each sees what the other wrote, no group is there twice."""
    one, two = (Lake(str(tmp_path), kind).table(CLIPS) for _ in range(2))
    one.replace_groups(clips("a", 3))
    two.replace_groups(pa.concat_tables([clips("a", 2), clips("b", 2)]))
    one.replace_groups(pa.concat_tables([clips("b", 1), clips("c", 1)]))
    assert seen(Lake(str(tmp_path), kind)) == {"a": [0, 1], "b": [0], "c": [0]}
    if kind == "delta":
        write_deltalake(
            str(tmp_path / "clips"), pa.table({"x": [1]}), mode="overwrite", schema_mode="overwrite"
        )
    else:
        pq.write_table(pa.table({"x": [1]}), next((tmp_path / "clips").glob("*.parquet")))
    with pytest.raises(SchemaMismatch, match=r"column clip_number \(int64\) is missing"):
        two.replace_groups(clips("b", 5))


def test_damaged_tables_are_described(tmp_path: Path, kind: Format) -> None:
    table = Lake(str(tmp_path), kind).table(ERRORS)
    table.replace_groups(rows_of(ERRORS, [{"source_key": "a"}]))
    if kind == "delta":
        for entry in (tmp_path / "errors" / "_delta_log").glob("*.json"):
            entry.write_text("{half a rec")
    else:
        next((tmp_path / "errors").glob("*.parquet")).write_bytes(b"PAR1 half a file")
    with pytest.raises(
        LakeError, match=r"errors.*Restore the file from a copy, or rename the folder"
    ) as raised:
        Lake(str(tmp_path), kind).table(ERRORS)
    assert len(str(raised.value)) < 400
    assert "unknown" not in str(raised.value)


def test_a_removed_or_damaged_file(tmp_path: Path, kind: Format) -> None:
    table = Lake(str(tmp_path), kind).table(CLIPS)
    table.replace_groups(clips("a", 50))
    [file] = [f for f in (tmp_path / "clips").glob("*.parquet") if f.stat().st_size]
    body = file.read_bytes()
    file.write_bytes(body[:200] + bytes(len(body) - 1000) + body[-800:])
    with pytest.raises(LakeError, match=r"clips.* read.*Restore the file from a copy"):
        table.batches().read_all()
    file.unlink()
    if kind == "delta":
        with pytest.raises(LakeError, match=r"clips: a file cannot be read.*Failed to open"):
            table.batches().read_all()


def test_nothing_is_read_through_python_on_this_machine(tmp_path: Path, kind: Format) -> None:
    """What Arrow's own threads still hold of Python when Python ends aborts the process."""
    table = Lake(str(tmp_path), kind).table(CLIPS)
    table.replace_groups(clips("a", 5))
    before = {id(it) for it in gc.get_objects() if isinstance(it, DeltaStorageHandler)}
    reader = table.batches()
    assert next(iter(reader)).num_rows == 5
    assert {id(it) for it in gc.get_objects() if isinstance(it, DeltaStorageHandler)} == before
    if kind == "delta":  # the table of another may be anywhere: there Python reads, and its end is waited for
        others = delta_batches(str(tmp_path / "clips"))
        assert others.read_all().num_rows == 5
        del others
        delta._wait_for_readers(5.0)
        assert {id(it) for it in gc.get_objects() if isinstance(it, DeltaStorageHandler)} == before


def test_the_environment_of_the_program_stays_as_it_was(tmp_path: Path, kind: Format) -> None:
    before = dict(os.environ)
    Lake(str(tmp_path), kind).table(CLIPS).replace_groups(clips("a", 5))
    assert dict(os.environ) == before


def test_a_folder_that_cannot_be_written(tmp_path: Path, kind: Format) -> None:
    (tmp_path / "lake").write_text("a file, not a folder")
    with pytest.raises(LakeError, match="lake"):
        Lake(str(tmp_path / "lake"), kind).table(CLIPS)


def test_settings_of_the_lake(tmp_path: Path, kind: Format) -> None:
    with pytest.raises(SettingsError, match="it must be 'delta' or 'parquet'"):
        Lake(str(tmp_path), "csv")  # type: ignore[arg-type]
    with pytest.raises(SettingsError, match="a bucket needs Delta"):
        Lake("s3://bucket/lake", "parquet")


def write_for_ever(folder: str, kind: Format, name: str) -> None:
    """What a writer process does until it is killed: the same groups in ever new lengths, and new ones."""
    table = Lake(folder, kind).table(CLIPS)
    for round_ in range(100_000):
        rows = [clips(f"{name}{video}", 1 + (round_ + video) % 7, "x" * 50) for video in range(5)]
        table.replace_groups(pa.concat_tables([*rows, clips(f"{name}-{round_}", 3), clips("shared", 4)]))


def whole(groups: dict[str, list[int]]) -> bool:
    return all(numbers == list(range(len(numbers))) for numbers in groups.values())


def test_killed_writers_leave_whole_groups(tmp_path: Path, kind: Format) -> None:
    """Two processes write the same table and are killed in the middle, again and again; a reader looks on."""
    context = multiprocessing.get_context("spawn")
    lake = Lake(str(tmp_path), kind)
    lake.table(CLIPS)
    reads = 0
    for seed in range(2):
        writers = [context.Process(target=write_for_ever, args=(str(tmp_path), kind, name)) for name in "ab"]
        for writer in writers:
            writer.start()
        rows_before = lake.read(CLIPS).num_rows
        deadline = time.monotonic() + 30
        while lake.read(CLIPS).num_rows == rows_before and time.monotonic() < deadline:
            time.sleep(0.02)
        end = time.monotonic() + 0.5 + 0.17 * seed
        while time.monotonic() < end:
            assert whole(seen(lake))
            reads += 1
        for writer in writers:
            assert writer.pid is not None
            os.kill(writer.pid, signal.SIGKILL)
            writer.join()
        assert whole(seen(lake))
    assert reads > 3
    assert seen(lake)["shared"] == [0, 1, 2, 3]
    lake.table(CLIPS).replace_groups(clips("after", 2))
    assert seen(lake)["after"] == [0, 1]


def files_of(table: LakeTable) -> list[str]:
    if isinstance(table, ParquetTable):
        return [str(file) for file in table.folder.glob("*.parquet")]
    return list(DeltaTable(table.sql_path()).file_uris())


def test_many_commits_keep_files_few(tmp_path: Path, kind: Format) -> None:
    table = Lake(str(tmp_path), kind).table(CLIPS)
    for number in range(70):
        table.replace_groups(clips(f"v{number}", 3))
    assert table.batches().read_all().num_rows == 210
    assert len(files_of(table)) < 20


def test_short_runs_keep_files_few(tmp_path: Path, kind: Format) -> None:
    """A run a night, each with fewer commits than make a compaction due by themselves."""
    for night in range(20):
        Lake(str(tmp_path), kind).table(CLIPS).replace_groups(clips(f"v{night}", 3))
    table = Lake(str(tmp_path), kind).table(CLIPS)
    assert table.batches().read_all().num_rows == 60
    assert len(files_of(table)) < 16


def test_large_tables_go_over_into_new_files(tmp_path: Path, kind: Format) -> None:
    if kind == "delta":
        pytest.skip("Delta sizes its files itself")
    table = ParquetTable(tmp_path / "vectors", VECTORS)
    values = np.random.default_rng(1).standard_normal((1024, 1024)).astype(np.float32)

    def rows(video: str, count: int = 1024) -> pa.Table:
        row = {"video_id": video, "model": "m", "dimension": 1024}
        return rows_of(VECTORS, [{**row, "start_sec": float(n), "vector": values[n]} for n in range(count)])

    for number in range(12):
        table.replace_groups(rows(f"v{number}"))
    assert len(list((tmp_path / "vectors").glob("*.parquet"))) == 3
    table.replace_groups(rows("v1", 5), delete=[("v0",)])
    videos = table.batches(["video_id"]).read_all().column("video_id").value_counts().to_pylist()
    assert {v["values"]: v["counts"] for v in videos} == {f"v{n}": 1024 for n in range(2, 12)} | {"v1": 5}


def test_a_new_file_never_overwrites_another(tmp_path: Path, kind: Format) -> None:
    lake = Lake(str(tmp_path), kind)
    for video in "abc":
        lake.table(CLIPS).append(clips(video, 1))
    if kind == "parquet":
        (tmp_path / "clips" / "part-000001.parquet").unlink()  # of a
    lake.table(CLIPS).append(clips("d", 1))
    assert set(seen(lake)) == ({"b", "c", "d"} if kind == "parquet" else {"a", "b", "c", "d"})
