"""The steps of the work in the studio: one file = one step, which is one panel of the page."""
