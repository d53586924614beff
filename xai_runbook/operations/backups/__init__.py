"""Section 3 of the runbook, Backup and Restore.

dumps            backups, verified ones and their age
base_backups     of a whole server; wal_archive: the WAL that goes with them; point_in_time: recovery from both
restores         into a new database, and the swap that puts it in place
retention        which backups may go
leftovers        what interrupted restores, backups and index builds leave behind
"""
