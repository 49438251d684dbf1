"""How rows are read from any database: the query, and how far it has been read.

What only one database does belongs in its module in `connector.stores.databases.readers`.
"""
