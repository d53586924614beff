"""The servers that the sandbox consists of, one module each, and the programs they need."""
