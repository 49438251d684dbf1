"""The config: its model, its options, the files it comes from, and the spec generated from it.

What an option does belongs in the module that does it.
"""
