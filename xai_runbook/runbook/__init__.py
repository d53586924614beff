"""The runbook's own items and errata, and which operation, notebook and test answers each."""
