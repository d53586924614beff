"""The programs that make, verify, restore and remove backups as steps of plans, and the files that they write."""
