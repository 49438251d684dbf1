"""The path of a record: from the input row through request, call and reply to its outcome.

`pipeline` has the whole path on one screen; the other modules are its stages and what one run needs open.
How a call is made belongs in `calls`, how calls are spread in `engines`.
"""
