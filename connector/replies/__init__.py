"""What failed replies mean: an HTTP status and an error body of any shape become one of the connector's errors.

How a kind of endpoint lays out its replies does not belong here but in `endpoints`, what is done about an error in
`calls` and `run`.
"""
