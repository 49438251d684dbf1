"""How rows are loaded into a table of any database: the kinds and names of columns, and the order of the steps.

What only one database does belongs in its module in `connector.stores.databases.writers`.
"""
