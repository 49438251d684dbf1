"""Which config is better: answers of several configs for the same rows, against a truth, a judge, and each other.

Rows are asked for by `run`, as in any other run, so nothing is paid for twice. `comparing` is the entry point; how a
value is compared with the truth is in `scales`, what chance explains in `statistics` (SciPy, the extra `evaluate`).
The figures of one run do not belong here but in `report`.
"""
