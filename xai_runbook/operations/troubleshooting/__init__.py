"""Section 6 of the runbook, troubleshooting.

nodes  sync state, height and peers, from the nodes' own API
"""
