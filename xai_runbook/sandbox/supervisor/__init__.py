"""The process that starts, watches and stops the sandbox's parts."""
