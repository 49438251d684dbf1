"""The version, and the page that platforms link to."""

__version__ = "0.1.0"

HOME = "https://pypi.org/project/openai-compatible-connector/"
"""The page of its releases, which exists once the first one is published (docs/releasing.md)."""
