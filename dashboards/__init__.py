"""Builds the Grafana dashboards that `xai_runbook/dashboards` ships; only those who work on them need this."""
