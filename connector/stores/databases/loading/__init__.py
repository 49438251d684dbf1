"""How rows enter a table of any database: the kinds of columns, their names, the order in which things are done.

What one database does in its own way does not belong here, but in its module in `connector.stores.databases.writers`.
"""
