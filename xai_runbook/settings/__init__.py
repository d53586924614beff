"""What an environment is: models of its file, the defaults, and how they are loaded."""
