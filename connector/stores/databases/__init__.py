"""What the reading and the writing of databases share: connections by URL, names and parameters in SQL.

What is read or written, and how, does not belong here but in the store `sql` and what it imports.
"""
