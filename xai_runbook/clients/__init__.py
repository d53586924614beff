"""Doers: each asks one kind of server, within a deadline, and knows no runbook."""
