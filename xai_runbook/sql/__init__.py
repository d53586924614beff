"""One query a file, named as the function that asks it; `NAME_15.sql` is for servers of version 15 and later."""
