"""Documents in Parquet files: what lies between the stages of a corpus, and what anyone may look into.

The same rows give the same bytes. A row group holds some megabytes of text, so that a reader needs no more
memory than that, whatever the file's size.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pyarrow as pa
import pyarrow.parquet as pq

DOCUMENT = pa.schema([(name, pa.string()) for name in ("id", "text", "source", "url")])
"""A document: `id`, `text`, `source` (for people: path and line), `url` (empty where there is none)."""

DROPPED = pa.schema([*DOCUMENT, *(pa.field(name, pa.string()) for name in ("stage", "reason", "detail"))])
"""What a stage took out (a document, or a part of one): the stage, one word for why, and more for people."""

_GROUP_BYTES = 8_000_000
_GROUP_ROWS = 65_536
_ROW_BYTES = 100  # about what a row costs besides its strings


class RowWriter:
    """Writes rows one by one, some megabytes at a time.

    Args:
        path: written in place: give a temporary name (`base.files.atomic_file`).
        schema: its columns.
    """

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self.rows = 0
        self._schema = schema
        self._buffer: list[Sequence[Any]] = []
        self._buffered_bytes = 0
        # Dictionaries help columns of few values and cost time on texts; nobody asks for texts by range.
        plain = [name for name in schema.names if name not in ("source", "stage", "reason")]
        self._file = pq.ParquetWriter(
            path,
            schema,
            compression="zstd",
            compression_level=1,
            use_dictionary=[name for name in schema.names if name not in plain],
            write_statistics=False,
        )

    def write(self, row: Sequence[Any]) -> None:
        """Add one row: a value for each column, in the schema's order."""
        self._buffer.append(row)
        self._buffered_bytes += _ROW_BYTES + sum(len(value) for value in row if isinstance(value, str))
        self.rows += 1
        if self._buffered_bytes >= _GROUP_BYTES or len(self._buffer) >= _GROUP_ROWS:
            self.end_group()

    def end_group(self) -> None:
        """Write what was gathered as a row group; without rows an empty one."""
        columns = list(zip(*self._buffer, strict=True)) or [()] * len(self._schema)
        arrays = [pa.array(column, field.type) for column, field in zip(columns, self._schema, strict=True)]
        self._file.write_table(pa.Table.from_arrays(arrays, schema=self._schema))
        self._buffer, self._buffered_bytes = [], 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None and self._buffer:
            self.end_group()
        self._file.close()


def read_batches(path: Path, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
    """The rows of a file, one row group at a time, in order."""
    with pq.ParquetFile(path) as file:
        for group in range(file.num_row_groups):
            yield from file.read_row_group(group, columns=columns).combine_chunks().to_batches()


def read_rows(path: Path, columns: Sequence[str]) -> Iterator[tuple[Any, ...]]:
    """The rows of a file as tuples of some columns, in order; no more than a row group is in memory."""
    for batch in read_batches(path, columns):
        yield from zip(*(batch.column(name).to_pylist() for name in columns), strict=True)
