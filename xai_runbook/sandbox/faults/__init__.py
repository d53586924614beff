"""What can be broken in the sandbox, and how it is healed."""
