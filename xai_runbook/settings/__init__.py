"""Settings of an environment: the models of its file, the defaults, and how both are loaded."""
