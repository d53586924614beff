"""Notebooks as the report reads them: cells, parameters, results, and the assembled health report."""
