"""Templates, compiled once and rendered for each row: sandboxed Jinja2 inside JSON, bounded in time and memory.

What a request consists of belongs in `endpoints`; this folder only turns a template and a row into a value.
"""
