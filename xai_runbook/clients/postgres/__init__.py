"""PostgreSQL as a role that may only read, as the operator role, through PgBouncer and through a bastion."""
