"""A simulated XAI node: its chain, peer network, HTTP API and metrics."""
