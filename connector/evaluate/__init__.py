"""Which config is better: the same rows by each of several, held to a truth, to a judge, and to each other.

Rows are asked for by `run`, as in any other run, so nothing is paid for twice. `comparing` is the way in; how a value
is held to the truth is in `scales`, what chance explains in `statistics` (SciPy, the extra `evaluate`). The figures of
one run do not belong here but in `report`.
"""
