"""Queries, checks and changes, one folder per section of the runbook. Each folder's docstring lists its modules.

`reachability` is shared by all sections: does each part answer.
"""
