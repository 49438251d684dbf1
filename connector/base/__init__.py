"""What has no dependency on other folders: errors, records, JSON values, the clock, masking, costs.

A module belongs here if any room may need it and it needs none itself.
"""
