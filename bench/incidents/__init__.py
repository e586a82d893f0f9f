"""Incidents end to end: a real gateway, upstreams that are made to fail, users that notice."""
