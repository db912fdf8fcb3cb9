"""Nearest neighbours among a lake's vectors: exact, or by an approximate index for interactive queries.

    tl_data.vectors.nearest("lake", vector, k=10)   # by the index if it is up to date, otherwise exact
    index = tl_data.vectors.index("lake")           # creates or updates the index
    index.nearest(vector, k=10)                     # a pyarrow.Table, best first, with a column `similarity`

In SQL the first one is `FROM tl_nearest('lake', vector, k => 10)`. The exact search is a product of NumPy;
vectors up to `KEPT_BYTES` stay in the memory of the process. The index is an HNSW graph of usearch over
bfloat16 vectors. It is stored in `LAKE/_index/vectors/` and memory-mapped. `benchmarks/vector_index.py`
measures its recall. `tl_data.spark.nearest` is exact and spreads one query over the executors.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import math
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from tl_data.errors import LakeError, MissingExtra, SchemaMismatch, SettingsError
from tl_data.lake.lake import Lake, open_lake
from tl_data.lake.row_ids import digests, row_ids
from tl_data.lake.schemas import VECTORS
from tl_data.types import NUMBER, TEXT

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

#: Parameters of the HNSW graph, chosen by `benchmarks/vector_index.py`.
CONNECTIVITY, EXPANSION_ADD, EXPANSION_SEARCH = 32, 128, 256
DTYPE = "bf16"
#: Share of removed nodes above which the graph is rebuilt, because removed nodes lower the recall.
REMOVED = 0.3
#: Largest size of the vectors that an exact search keeps in memory. More are read for each query.
KEPT_BYTES = 4 << 30
#: Number of vectors in a block of an exact search.
BLOCK_ROWS = 131_072
#: Version of the files of an index.
FORMAT = 1
#: The stored rows of an index.
ROWS = pa.schema(
    [
        ("label", pa.int64()),  # the node in the graph; ascending
        ("id", TEXT),
        ("digest", pa.binary()),
        ("video_id", TEXT),
        ("start_sec", NUMBER),
        ("end_sec", NUMBER),
        ("embedding_scope", TEXT),
        ("embedding_option", TEXT),
    ]
)
#: The columns of the table that a search returns.
RESULT_COLUMNS = ("video_id", "start_sec", "end_sec", "embedding_scope", "embedding_option")


@dataclass(frozen=True)
class State:
    """The state of an index, stored in `index.json`."""

    model: str
    dimension: int
    fingerprint: str  # of the table's files, see `_fingerprint`
    generation: int
    next_label: int
    removed: int  # removed nodes that the graph still has
    skipped: int  # rows without a comparable vector
    format: int = FORMAT


class VectorIndex:
    """An open index. It does not see later updates; open it again to see them."""

    def __init__(self, folder: Path, state: State) -> None:
        usearch = _usearch()
        self.model, self.dimension, self.state = state.model, state.dimension, state
        self._graph: Any = None
        if state.dimension:
            self._graph = usearch.Index.restore(str(_graph(folder, state)), view=True)
            self._graph.expansion_search = EXPANSION_SEARCH
        with pa.memory_map(str(_rows(folder, state))) as source:
            self.rows: pa.Table = pa.ipc.open_file(source).read_all()
        self._labels: NDArray[np.int64] = self.rows.column("label").to_numpy()

    def __len__(self) -> int:
        return int(self.rows.num_rows)

    def nearest(
        self, vector: Sequence[float], k: int = 10, *, scope: str | None = None, option: str | None = None
    ) -> pa.Table:
        """The rows whose vectors are most similar to a query, best first.

        Args:
            vector: the query: a vector of the same model.
            k: the largest number of rows.
            scope: only rows of this `embedding_scope`, such as clip.
            option: only rows of this `embedding_option`, such as visual.

        Returns:
            `video_id`, `start_sec`, `end_sec`, `embedding_scope`, `embedding_option`, and `similarity`: the
            cosine, computed from bfloat16 values, with an error of up to 0.01.

        Raises:
            SchemaMismatch: the query has another dimension, is zero or not finite; `k` is below 1.
        """
        import numpy as np

        query = _query(vector, k, self.model, self.dimension)
        count = len(self)
        candidates = min(k, count)
        while candidates:
            matches = self._graph.search(query, candidates)
            rows = self._rows_of(matches.keys, matches.distances, scope, option)
            if rows.num_rows >= min(k, count) or candidates >= count:
                return rows.slice(0, k)
            candidates = min(candidates * 8, count)  # the filter left too few rows: search for more
        return self._rows_of(np.array([], np.uint64), np.array([], np.float32), scope, option)

    def _rows_of(self, labels: Any, distances: Any, scope: str | None, option: str | None) -> pa.Table:
        """The rows of these nodes that match the filter, with their similarity."""
        import numpy as np

        positions = np.searchsorted(self._labels, labels.astype(np.int64))
        rows = self.rows.select(list(RESULT_COLUMNS)).take(pa.array(positions, pa.int64()))
        similarity = pa.array(np.clip(1.0 - distances.astype(np.float64), -1.0, 1.0))
        rows = rows.append_column("similarity", similarity)
        for column, value in (("embedding_scope", scope), ("embedding_option", option)):
            if value is not None:
                rows = rows.filter(pc.equal(rows.column(column), value))
        return rows


def index(table: Lake | str, *, folder: str | None = None) -> VectorIndex:
    """Open the index of a lake's vectors. It is first created or updated.

    An update only inserts new and changed rows. The graph is rebuilt if the model or the dimension changed,
    or if too many nodes were removed.

    Args:
        table: the folder of the lake, or a `Lake`.
        folder: the folder of the index; None: `_index/vectors` in the lake. A lake in a bucket needs a local
            folder.

    Raises:
        MissingExtra: usearch is not installed.
        SettingsError: the lake has no table `vectors`, or it is in a bucket and `folder` is None.
        LakeError: the index cannot be written.
    """
    _usearch()
    lake = open_lake(table)
    if not lake.exists(VECTORS):
        raise SettingsError(f"{lake.folder} has no table vectors")
    place = _place(lake, folder)
    try:
        place.mkdir(parents=True, exist_ok=True)
        with (place / ".lock").open("wb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            state = _state(place)
            fingerprint = _fingerprint(lake)
            if state is None or state.fingerprint != fingerprint or fingerprint == "":
                state = _Update(lake, place, state, fingerprint).run()
            return VectorIndex(place, state)
    except OSError as error:
        raise LakeError(f"{place}: the index cannot be written: {error.strerror or error}") from error


def current(table: Lake | str, *, folder: str | None = None) -> VectorIndex | None:
    """The index if it exists and is up to date; else None, also if usearch is not installed.

    It stays open until the table changes. Changes of a lake in a bucket are not detected: an index of it in
    `folder` counts as up to date.
    """
    place = table if isinstance(table, str) else table.folder
    if "://" in place and folder is None:
        return None  # without opening the lake, which takes a request for each table
    lake = open_lake(table)
    return _open_index(lake, folder, _fingerprint(lake))


def _current_state(lake: Lake, folder: str | None, fingerprint: str) -> tuple[Path, State] | None:
    """The folder and state of the index if it is up to date."""
    if "://" in lake.folder and folder is None:
        return None
    place = _place(lake, folder)
    state = _state(place)
    return (place, state) if state is not None and state.fingerprint == fingerprint else None


def nearest(
    table: Lake | str,
    vector: Sequence[float],
    k: int = 10,
    *,
    scope: str | None = None,
    option: str | None = None,
    folder: str | None = None,
) -> pa.Table:
    """The rows of a lake whose vectors are most similar to a query, best first.

    The index answers if it is up to date (see `current`). Otherwise all vectors are compared, and the result
    is exact.

    Args:
        table, folder: as for `index`.
        vector, k, scope, option: as for `VectorIndex.nearest`, which also describes the result.

    Raises:
        SettingsError: the lake has no table `vectors`.
        SchemaMismatch: the query has another dimension, is zero or not finite; `k` is below 1.
    """
    return Searcher(table, folder=folder).nearest(vector, k, scope=scope, option=option)


def nearest_lists(rows: Sequence[Mapping[str, Any]]) -> list[list[dict[str, Any]] | None]:
    """The results of `tl_nearest` for rows of its arguments; None without a lake or a vector.

    Each lake is opened once. Raises as `nearest`.
    """
    searchers: dict[str, Searcher] = {}
    lists: list[list[dict[str, Any]] | None] = []
    for row in rows:
        lake = row["lake"]
        if lake is None or row["vector"] is None:
            lists.append(None)
            continue
        if lake not in searchers:
            searchers[lake] = Searcher(lake)
        k = 10 if row["k"] is None else row["k"]
        found = searchers[lake].nearest(row["vector"], k, scope=row["scope"], option=row["option"])
        lists.append(found.to_pylist())
    return lists


class Searcher:
    """The vectors of a lake as they are now, for several queries. See `nearest` for arguments and errors."""

    def __init__(self, table: Lake | str, *, folder: str | None = None) -> None:
        self._lake = open_lake(table)
        if not self._lake.exists(VECTORS):
            raise SettingsError(f"{self._lake.folder} has no table vectors")
        fingerprint = _fingerprint(self._lake)
        self._index = _open_index(self._lake, folder, fingerprint)
        # A bucket has no fingerprint. This object reads its table once for all of its queries.
        self._version = fingerprint or uuid.uuid4().hex

    def nearest(
        self, vector: Sequence[float], k: int = 10, *, scope: str | None = None, option: str | None = None
    ) -> pa.Table:
        """The rows that are most similar to a query, best first."""
        if self._index is not None:
            return self._index.nearest(vector, k, scope=scope, option=option)
        return _exact(self._lake, self._version, vector, k, scope, option)


def _open_index(lake: Lake, folder: str | None, fingerprint: str) -> VectorIndex | None:
    """The index if it is up to date; it stays open until the table changes."""
    found = _current_state(lake, folder, fingerprint)
    if found is None or find_spec("usearch") is None:
        return None
    key = f"{found[0]} {found[1].generation} {fingerprint}"
    opened = _opened.get(key)
    if opened is None:
        opened = VectorIndex(*found)
        _opened.clear()
        _opened[key] = opened
    return opened  # not read from the dict again: another thread may have cleared it


@dataclass
class _Block:
    """Some rows of a table, and their vectors as rows of a matrix, of length 1 each."""

    rows: pa.Table
    matrix: NDArray[np.float32]
    masks: dict[tuple[str | None, str | None], NDArray[np.bool_]] = field(default_factory=dict)

    def mask(self, scope: str | None, option: str | None) -> NDArray[np.bool_]:
        """The rows that do not match a filter."""
        import numpy as np

        if (scope, option) not in self.masks:
            mask = np.zeros(len(self.matrix), bool)
            for column, value in (("embedding_scope", scope), ("embedding_option", option)):
                if value is not None:
                    matching = pc.fill_null(pc.equal(self.rows.column(column), value), False)
                    mask |= ~np.asarray(matching)
            self.masks[scope, option] = mask
        return self.masks[scope, option]


#: Folder of the lake that an exact search read last, and its fingerprint or a random text -> its model, its
#: dimension, and its blocks if they are kept.
_kept: dict[tuple[str, str], tuple[str, int, list[_Block] | None]] = {}
#: The index that `nearest` opened last, by its folder, generation and fingerprint.
_opened: dict[str, VectorIndex] = {}


def _exact(
    lake: Lake,
    version: str,
    vector: Sequence[float],
    k: int,
    scope: str | None,
    option: str | None,
) -> pa.Table:
    """The exact nearest rows, by the product of the query with blocks of vectors."""
    import numpy as np

    key = lake.folder, version
    kept = _kept.get(key)
    if kept is None:
        kept = (*_model_and_dimension(lake), None)
        _kept.clear()
    model, dimension, _ = kept
    query = _query(vector, k, model, dimension)
    query = query / np.linalg.norm(query)
    best: list[pa.Table] = []
    for block in _blocks(lake, key, kept):
        scores = block.matrix @ query
        if scope is not None or option is not None:
            scores[block.mask(scope, option)] = -np.inf
        count = min(k, len(scores))
        at = np.argpartition(scores, len(scores) - count)[len(scores) - count :]
        at = np.sort(at[np.isfinite(scores[at])])
        similarity = pa.array(np.clip(scores[at].astype(np.float64), -1.0, 1.0))
        best.append(block.rows.take(pa.array(at)).append_column("similarity", similarity))
    if not best:
        empty = ROWS.empty_table().select(list(RESULT_COLUMNS))
        return empty.append_column("similarity", pa.array([], pa.float64()))
    merged = pa.concat_tables(best)
    order = np.argsort(-merged.column("similarity").to_numpy(), kind="stable")[:k]
    return merged.take(pa.array(order))


def _blocks(lake: Lake, key: tuple[str, str], kept: tuple[str, int, list[_Block] | None]) -> Iterator[_Block]:
    """The comparable rows of the table in blocks, from memory if they are kept."""
    model, dimension, blocks = kept
    if blocks is not None:
        yield from blocks
        return
    read: list[_Block] | None = []
    size = 0
    for block in _read_blocks(lake, dimension):
        size += block.matrix.nbytes
        if read is not None:
            read.append(block)
            if size > KEPT_BYTES:
                read = None
        yield block
    if read is not None:
        _kept[key] = model, dimension, read


def _read_blocks(lake: Lake, dimension: int) -> Iterator[_Block]:
    import numpy as np

    rows: list[pa.RecordBatch] = []
    matrices: list[NDArray[np.float32]] = []

    def block() -> _Block:
        joined = _Block(pa.Table.from_batches(rows), np.concatenate(matrices))
        rows.clear()
        matrices.clear()
        return joined

    for batch in lake.batches(VECTORS, [*RESULT_COLUMNS, "vector"]):
        is_comparable, matrix = _comparable(batch.column("vector"), dimension)
        at = np.flatnonzero(is_comparable)
        if not len(at):
            continue
        found = matrix if len(at) == len(matrix) else matrix[at]
        matrices.append(found / np.linalg.norm(found, axis=1, keepdims=True))
        rows.append(batch.select(list(RESULT_COLUMNS)).take(pa.array(at)))
        if sum(map(len, matrices)) >= BLOCK_ROWS:
            yield block()
    if rows:
        yield block()


def _query(vector: Sequence[float], k: int, model: str, dimension: int) -> NDArray[np.float32]:
    """The query as an array. Raises SchemaMismatch if it cannot be compared, or `k` is below 1."""
    import numpy as np

    if k < 1:
        raise SchemaMismatch(f"k is {k}; it must be at least 1")
    query = np.asarray(vector, dtype=np.float32)
    if dimension and query.shape != (dimension,):
        raise SchemaMismatch(
            f"the query has {query.size} dimensions, the vectors of {model} have {dimension}"
        )
    if not np.isfinite(query).all() or not query.any():
        raise SchemaMismatch("the query vector is zero or not finite")
    return query


@dataclass
class _Update:
    """One update of the graph from the table."""

    lake: Lake
    place: Path
    before: State | None  # of the existing index
    fingerprint: str

    def run(self) -> State:
        """Update the existing graph, or build a new one; returns the state."""
        model, dimension = _model_and_dimension(self.lake)
        old = self.before
        is_updatable = old is not None and (old.model, old.dimension) == (model, dimension) and dimension > 0
        if old is not None and is_updatable:
            rows = _read_rows(_rows(self.place, old))
            state, kept, graph = self._apply_changes(rows, model, dimension, old)
            if state.removed <= REMOVED * max(len(graph), 1):
                return self._write(state, kept, graph)
        state, kept, graph = self._apply_changes(ROWS.empty_table(), model, dimension, None)
        return self._write(state, kept, graph)

    def _apply_changes(
        self, rows: pa.Table, model: str, dimension: int, old: State | None
    ) -> tuple[State, pa.Table, Any]:
        """Compare the indexed rows with the table; add new and changed rows to the graph, remove the others.

        Returns the new state, the indexed rows and the graph.
        """
        import numpy as np

        graph = self._open_graph(old, dimension)
        position_of = {id_: n for n, id_ in enumerate(rows.column("id").to_pylist())}
        old_digests, labels = rows.column("digest").to_pylist(), rows.column("label").to_pylist()
        label = 0 if old is None else old.next_label
        added: list[pa.RecordBatch] = []
        is_unchanged, seen, skipped = np.zeros(len(position_of), bool), set(), 0
        for batch in self.lake.batches(VECTORS):
            ids, new_digests = row_ids("vectors", batch), digests(batch)
            is_comparable, matrix = _comparable(batch.column("vector"), dimension)
            new = []
            for n, id_ in enumerate(ids):
                if not is_comparable[n] or id_ in seen:
                    skipped += 1
                    continue
                seen.add(id_)
                position = position_of.get(id_)
                if position is not None and old_digests[position] == new_digests[n]:
                    is_unchanged[position] = True
                else:
                    new.append(n)
            if new:
                new_labels = np.arange(label, label + len(new), dtype=np.uint64)
                label += len(new)
                graph.add(new_labels, matrix[new])
                columns = [pa.array(new_labels.astype(np.int64)), pa.array([ids[n] for n in new], TEXT)]
                columns.append(pa.array([new_digests[n] for n in new], pa.binary()))
                columns += [batch.column(name).take(pa.array(new)) for name in RESULT_COLUMNS]
                added.append(pa.record_batch(columns, schema=ROWS))
        gone = [labels[n] for n in np.flatnonzero(~is_unchanged)]
        if gone:
            graph.remove(np.array(gone, np.uint64))
        kept = pa.concat_tables([rows.filter(pa.array(is_unchanged)), pa.Table.from_batches(added, ROWS)])
        removed = (0 if old is None else old.removed) + len(gone)
        generation = 1 if self.before is None else self.before.generation + 1
        state = State(model, dimension, self.fingerprint, generation, label, removed, skipped)
        return state, kept, graph

    def _open_graph(self, old: State | None, dimension: int) -> Any:
        """A graph in memory: that of the old state, or an empty one."""
        usearch = _usearch()
        if old is not None:
            graph = usearch.Index.restore(str(_graph(self.place, old)), view=False)
            graph.expansion_add = EXPANSION_ADD
            return graph
        options = {"connectivity": CONNECTIVITY, "expansion_add": EXPANSION_ADD}
        return usearch.Index(ndim=max(dimension, 1), metric="cos", dtype=DTYPE, **options)

    def _write(self, state: State, rows: pa.Table, graph: Any) -> State:
        """Write the files of a generation, then the state that refers to them, then delete older files."""
        if state.dimension:
            graph.save(str(_graph(self.place, state)))
        with pa.OSFile(str(_rows(self.place, state)), "wb") as out, pa.ipc.new_file(out, ROWS) as writer:
            writer.write_table(rows)
        part = self.place / "index.json.part"
        part.write_text(json.dumps(asdict(state)), encoding="utf-8")
        part.replace(self.place / "index.json")
        for file in self.place.iterdir():
            if file.suffix in (".usearch", ".arrow") and not file.name.startswith(f"{state.generation:08}."):
                file.unlink(missing_ok=True)
        return state


def _place(lake: Lake, folder: str | None) -> Path:
    if folder is not None:
        return Path(folder).expanduser()
    if "://" in lake.folder:
        raise SettingsError(f"{lake.folder} is in a bucket: pass a local folder: folder=...")
    return Path(lake.folder) / "_index" / "vectors"


def _graph(folder: Path, state: State) -> Path:
    return folder / f"{state.generation:08}.usearch"


def _rows(folder: Path, state: State) -> Path:
    return folder / f"{state.generation:08}.arrow"


def _read_rows(path: Path) -> pa.Table:
    with pa.OSFile(str(path)) as source:
        return pa.ipc.open_file(source).read_all()


def _state(folder: Path) -> State | None:
    """The state of the index; None if there is no index, or one of another format."""
    try:
        record = json.loads((folder / "index.json").read_text(encoding="utf-8"))
        state = State(**record)
    except (FileNotFoundError, ValueError, TypeError):
        return None
    files_exist = _rows(folder, state).exists() and (not state.dimension or _graph(folder, state).exists())
    return state if state.format == FORMAT and files_exist else None


def _fingerprint(lake: Lake) -> str:
    """A fingerprint of the table's files. It is "" for a bucket, where every opening compares all rows."""
    if "://" in lake.folder:
        return ""
    folder = Path(lake.folder) / VECTORS.name
    digest = hashlib.sha256()
    for file in sorted(folder.rglob("*")):
        with contextlib.suppress(FileNotFoundError):
            if file.is_file():
                info = file.stat()
                digest.update(f"{file.relative_to(folder)} {info.st_size} {info.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def _model_and_dimension(lake: Lake) -> tuple[str, int]:
    """The model and dimension of the table: those of its first row with a vector."""
    for batch in lake.batches(VECTORS, ["model", "vector"]):
        lengths = pc.list_value_length(batch.column("vector")).to_pylist()
        for n, length in enumerate(lengths):
            if length:
                return str(batch.column("model")[n].as_py() or ""), int(length)
    return "", 0


def _comparable(vectors: pa.Array, dimension: int) -> tuple[list[bool], NDArray[np.float32]]:
    """Whether each vector has the dimension and is finite and non-zero; and the vectors as rows of an array.

    A vector of another dimension is a row of zeros.
    """
    import numpy as np

    lengths = pc.list_value_length(vectors).to_pylist()
    usable = [n for n, length in enumerate(lengths) if length == dimension and dimension]
    matrix = np.zeros((len(lengths), max(dimension, 1)), np.float32)
    if usable:
        flat = pc.list_flatten(vectors.take(pa.array(usable))).to_numpy(zero_copy_only=False)
        matrix[usable] = flat.reshape(len(usable), dimension)
    squares = np.einsum("ij,ij->i", matrix, matrix)
    return [bool(s) and math.isfinite(s) for s in squares], matrix


def _usearch() -> Any:
    try:
        from usearch import index as usearch
    except ImportError as error:
        raise MissingExtra("usearch", "index") from error
    return usearch
