"""Databases: what the store `sql` is made of.

`connection` opens one by its URL. `reading` is how rows are read from any of them, `readers` each one's own ways;
`loading` is how rows enter any of them, `writers` each one's own ways. A new database is a file in `readers` and one in
`writers`. Options do not belong here but in the store, nor does what a command makes of a table.
"""
