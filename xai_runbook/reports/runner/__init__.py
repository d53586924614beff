"""Runs a notebook in a process and a kernel of its own, within time, output and redaction limits."""
