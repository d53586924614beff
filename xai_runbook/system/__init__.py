"""This machine: processes, files, the clock, the terminal."""
