"""Plain data without any connection: findings, plans and their steps, windows, units, secrets."""
