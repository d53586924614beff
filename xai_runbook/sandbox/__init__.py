"""The sandbox: a small production of real servers on this machine, and its faults."""
