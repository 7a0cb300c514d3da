"""Readers: the rows of a snapshot as Arrow batches, as a Polars LazyFrame, and as a DuckDB relation."""
