"""Where rows live: documents in, Parquet files with one schema a record kind, and SQL over all that is a table.

documents = store.documents("data/documents")
rows = store.query("SELECT id FROM preference WHERE score_chosen - score_rejected > $gap", {"gap": 0.3}, run=run)
store.export(rows, "rows.csv")"""

from workbench.errors import StoreError
from workbench.store._documents import Documents, documents
from workbench.store.parquet import TABLES, atomically, cannot_write, read, read_table, schema, table, write
from workbench.store.sql import Rows, as_table, described, export, nearest, query, vectors

__all__ = [
    "TABLES", "Documents", "Rows", "StoreError", "as_table", "atomically", "cannot_write", "described", "documents", "export",
    "nearest", "query", "read", "read_table", "schema", "table", "vectors", "write",
]  # fmt: skip
