"""The report of a run: its figures, collected in bounded memory as outcomes pass, as an HTML page or as JSON.

Both are made from `figures`. The totals of a run in a few lines, and why rows failed, belong in `run.summary`.
"""
