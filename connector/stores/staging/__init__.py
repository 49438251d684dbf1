"""Rows on their way: where they wait on disk, what they look like, how far they have been read, how a file appears.

What a file format or a database does with the rows does not belong here, nor anything that needs DuckDB.
"""
