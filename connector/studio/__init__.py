"""The studio: a local page to try a prompt, compare variants, and run the table.

`session` is all that it does, without a page, and `page` shows that (NiceGUI, the extra `studio`). `guard` says who may
see it. What comparing means does not belong here but in `evaluate`, what a run is in `run`.
"""
