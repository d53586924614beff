"""This machine: processes, files, locks, the clock and the terminal."""
