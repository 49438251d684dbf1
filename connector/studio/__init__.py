"""The studio: a local page to try a prompt, compare variants, and run the table.

`session` holds all behaviour without a page, `page` shows it (NiceGUI, the extra `studio`), and `guard` controls
access. How variants are compared does not belong here but in `evaluate`, how rows are run in `run`.
"""
