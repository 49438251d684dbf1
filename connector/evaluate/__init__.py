"""Which config is better: compares the answers of several configs for the same rows with the truth or by a judge.

`run` makes the calls as in any other run, so nothing is paid for twice. `comparing` is the entry point; `scales`
compares a value with the truth, and `statistics` (SciPy, the extra `evaluate`) says what may be chance. The figures of
a single run do not belong here but in `report`.
"""
