"""The process that starts the sandbox, watches it and takes it down."""
