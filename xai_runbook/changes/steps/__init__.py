"""How each kind of step is carried out, and what its result says."""
