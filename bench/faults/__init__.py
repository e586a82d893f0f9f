"""Faults that are too large or too long for the test suite; each run is bounded."""
