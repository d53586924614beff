"""GET requests with a deadline and a bounded answer, and the answers shared within one run."""
