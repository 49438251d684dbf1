"""What stores share: where rows wait on disk, their types, how far they have been read, how a file is published.

What a file format or a database does with the rows does not belong here, nor anything that needs DuckDB.
"""
