"""The only way to change anything: `apply.apply`, the only holder of credentials that can."""
