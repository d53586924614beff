-- Written to postgresql.auto.conf; it holds from the next restart on. Each library is a text of its own: several in one
-- would be one library of that name, and the server would not start.
ALTER SYSTEM SET shared_preload_libraries = {libraries}
