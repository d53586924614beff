"""PostgreSQL clients: the read-only role, the operator role, PgBouncer's console, and a tunnel through a bastion."""
