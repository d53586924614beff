"""Reading notebooks: cells, parameters, results; and assembling the health report."""
