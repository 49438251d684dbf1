"""Templates, compiled once and rendered for each row: sandboxed Jinja2 inside JSON, bounded in steps and memory.

This folder turns a template and a row into a value. What a request contains belongs in `endpoints`, not here.
"""
