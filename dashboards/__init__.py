"""Builder of the Grafana dashboards in `xai_runbook/dashboards`; only needed to change them."""
