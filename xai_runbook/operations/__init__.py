"""Queries, checks and changes, a folder per section of the runbook; each folder's docstring says what stands where.

`reachability` asks whether each part answers, in every section.
"""
