"""Prometheus' HTTP API and the text format of exporters."""
