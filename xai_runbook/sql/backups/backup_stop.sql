-- Ends it; the two files are to be written into the copy as they are.
SELECT lsn::text AS lsn, labelfile, spcmapfile FROM pg_stop_backup(false, false)
