"""Section 2 of the runbook, Prometheus and its alerts.

metrics             metrics of nodes, processes and hosts
requests            latency, errors and traffic of the nodes' API
prometheus_server   Prometheus itself: its configuration, clock and retention
prometheus_storage  its storage: failures, rejected samples, series growth, remote write
scrapes             its targets: vanished ones, slow scrapes
alert_rules         the limits as alerting rules
alert_evaluation    the limits evaluated now, as Prometheus would
alert_history       the limits evaluated over a past window
active_alerts       the alerts that Prometheus holds now
silences            Alertmanager's silences
rule_drift          the rules loaded in Prometheus against the limits
alert_rehearsal     load in the sandbox that makes an alert fire
"""
