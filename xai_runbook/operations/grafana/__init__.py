"""Section 2 of the runbook, Grafana: health (the server and its dashboards) and import_dashboards."""
