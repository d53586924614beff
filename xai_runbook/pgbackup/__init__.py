"""Making, verifying, restoring and removing backups: the programs that steps run, and what they leave in a folder."""
