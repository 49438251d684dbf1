"""Where replies are kept so that none is paid for twice. One module is one place to keep them.

When the ledger is asked and written belongs in `run`.
"""
