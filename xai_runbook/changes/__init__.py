"""Everything that changes something: `apply.apply` is the only way to it and the only holder of write credentials."""
