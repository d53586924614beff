"""Section 3 of the runbook, Backup and Restore.

dumps            dumps, the list of backups and their age
base_backups     copies of a whole cluster
wal_archive      the state of WAL archiving, and which points in time are recoverable
point_in_time    rehearsed recovery from a base backup and the WAL archive
restores         restores into a new database, and the swap that replaces the live one
retention        which backups can be removed
leftovers        what interrupted restores, backups and index builds leave behind
"""
