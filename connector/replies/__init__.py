"""What replies mean: errors of any shape and status, finish reasons by any name, JSON in a model's text.

What does not belong here: the shape of an endpoint kind's replies (`endpoints`), and what is done about an error
(`calls`, `run`).
"""
