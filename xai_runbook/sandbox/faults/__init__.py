"""Faults that can be broken and healed in the sandbox."""
