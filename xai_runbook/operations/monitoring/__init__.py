"""Section 2 of the runbook, Prometheus and its alerts.

metrics          what Prometheus knows of nodes, hosts and the API; requests: its answers by route
prometheus_server, prometheus_storage, scrapes: whether it is to be believed
alert_rules      the alert table as rules; alert_evaluation: judged now; alert_history: over a window
active_alerts    what fires; silences; rule_drift: what is loaded elsewhere
alert_rehearsal  an alert provoked in the sandbox
"""
