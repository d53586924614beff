"""Deciders: queries that read, checks that judge, changes that plan. Which module, by section of the runbook:

every section    reachability
2 monitoring     monitoring requests series: what Prometheus knows of nodes, hosts and requests
                 prometheus_health prometheus_storage scrapes: whether it is to be believed
                 rules alerts alert_history active silences drift: the alert table, judged, loaded, silenced
                 grafana dashboards; provoking: an alert rehearsed
3 database       database locks pools pool_size configuration: who is connected, and to how much
                 sizes statements effects indexes relations maintenance: what is slow, grows or wants care
                 replication consistency transactions
                 backups retention restores leftovers; cluster_backups archives recovery: to a point in time
6 troubleshooting
                 troubleshooting
"""
