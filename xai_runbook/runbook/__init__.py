"""The items and errata of the runbook, and the operation, notebook and tests that cover each item."""
