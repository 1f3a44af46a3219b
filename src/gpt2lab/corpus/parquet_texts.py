"""Texts in Parquet files: a column `text` and, where they are there, `id` and `url`."""

from collections.abc import Iterator
from pathlib import Path

from gpt2lab.base.errors import UserError
from gpt2lab.base.extras import import_extra

PARQUET_SUFFIX = ".parquet"
_ROWS_AT_ONCE = 256


class NoTextColumnError(UserError):
    """A Parquet file without a column `text`."""


def read_parquet(file: Path) -> Iterator[tuple[str | None, str, str | None] | UserError]:
    """The id (if it has one), the text and the address (if it has one) of each row.

    In the place of what cannot be read comes the error that says why, and then nothing more.
    """
    pa, pq = import_extra("pyarrow", "corpus"), import_extra("pyarrow.parquet", "corpus")
    try:
        with pq.ParquetFile(file) as opened:
            names = opened.schema_arrow.names
            if "text" not in names:
                yield NoTextColumnError(
                    f"columns: {', '.join(names)}", where=file, fix="Name the column of the text `text`"
                )
                return
            columns = [column for column in ("text", "id", "url") if column in names]
            for batch in opened.iter_batches(batch_size=_ROWS_AT_ONCE, columns=columns):
                for row in batch.to_pylist():
                    identity, url = row.get("id"), row.get("url")
                    yield None if identity is None else str(identity), str(row["text"] or ""), url
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        yield UserError(f"this Parquet file cannot be read: {error}", where=file, fix="Fetch the file again")
