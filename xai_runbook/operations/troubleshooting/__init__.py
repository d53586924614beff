"""Section 6 of the runbook: nodes (what their own API says)."""
