"""Section 2 of the runbook, Grafana.

health             the server, its data sources and its dashboards
import_dashboards  import the runbook's dashboards, and undo that
"""
