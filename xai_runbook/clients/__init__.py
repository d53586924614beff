"""Clients: each module talks to one kind of server, with a deadline, and knows nothing of the runbook."""
