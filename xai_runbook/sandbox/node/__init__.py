"""A simulated XAI node: its chain, its network, its API and its metrics."""
