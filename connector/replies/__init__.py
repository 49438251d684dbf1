"""What replies mean: errors of any shape and status, finish reasons by any name, JSON in a model's text.

How a kind of endpoint lays out its replies does not belong here but in `endpoints`, what is done about an error in
`calls` and `run`.
"""
