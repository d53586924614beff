"""Running notebooks: each in its own process and kernel, with deadlines, output limits and redacted secrets."""
