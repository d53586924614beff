-- Memory settings in bytes.
SELECT pg_size_bytes(current_setting('work_mem')) AS work_mem_bytes,
       pg_size_bytes(current_setting('shared_buffers')) AS shared_buffers_bytes
