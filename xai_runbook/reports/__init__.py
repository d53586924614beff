"""Health reports: run notebooks, collect their findings, write them as a page, as JSON and for a terminal."""
