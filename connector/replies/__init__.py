"""What an endpoint's words mean: an error body of any shape becomes one error of ours.

How a reply is laid out by endpoint kind belongs in `endpoints`, what is done about an error in `calls` and `run`.
"""
