"""The report of a run: its figures, collected in bounded memory as outcomes pass, as a page for people or as JSON.

`figures` is what both come from. What a run came to in a few lines, and why rows failed, belongs in `run.summary`.
"""
