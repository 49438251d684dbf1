"""How rows are read from any database: the query, and how far it has been read.

What one database does in its own way does not belong here, but in its module in `connector.stores.databases.readers`.
"""
