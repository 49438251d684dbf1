"""The studio: a local page to try a prompt, compare variants, and run the table.

`session` is all that it does, without a page. `page` shows that (NiceGUI, the extra `studio`): `steps/` has a file for
each step of the work, `tab` what they share, `elements` their parts. `guard` says who may see it. What comparing means
does not belong here but in `evaluate`, what a run is in `run`.
"""
