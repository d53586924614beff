"""The command line: one file per command, thin over functions that Python can call."""
