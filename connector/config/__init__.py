"""The config: its model, its options, the files it comes from, and the spec made of it.

What an option does belongs in the room that does it.
"""
