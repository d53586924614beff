"""Deciders: queries that read, and checks that judge; one module a section of the runbook."""
