-- Written to postgresql.auto.conf; effective from the next restart. Each library is a literal of its own: a single one
-- with commas would be the name of one library, and the server would not start.
ALTER SYSTEM SET shared_preload_libraries = {libraries}
