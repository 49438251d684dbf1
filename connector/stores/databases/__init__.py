"""Databases: the parts that the store `sql` is made of.

`connection` opens a database by its URL. `reading` holds what all databases share when rows are read, `readers` one
module per database; `loading` and `writers` likewise when rows are written. A new database is one file in `readers` and
one in `writers`. Options belong in the store, not here, and what a command does with a table belongs in the command.
"""
