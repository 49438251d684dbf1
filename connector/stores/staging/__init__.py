"""Where rows wait on disk: private directories, spools of JSON lines in order, and files that appear all at once.

What a file format or a database does with the rows does not belong here.
"""
