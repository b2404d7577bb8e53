"""Measurements of the limits that tokenmill promises; run with `make bench`, never as tests."""
