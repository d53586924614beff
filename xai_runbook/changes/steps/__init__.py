"""How each kind of step acts, and what its result means."""
