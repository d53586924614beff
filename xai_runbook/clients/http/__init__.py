"""HTTP GET with a deadline and a size limit, and a request cache for one run."""
