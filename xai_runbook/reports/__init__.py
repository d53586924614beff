"""Runs notebooks and tells what they found: a page, a record, a terminal screen."""
