"""The spec as platforms read it, and the tool of this project that generates it (`make spec`); not installed."""
