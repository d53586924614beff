"""Prometheus' HTTP API, and the text format of metrics pages."""
