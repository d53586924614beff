-- End the low-level backup of this session. Both files must be written into the copy unchanged.
SELECT lsn::text AS lsn, labelfile, spcmapfile FROM pg_stop_backup(false, false)
