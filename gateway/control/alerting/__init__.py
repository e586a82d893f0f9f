"""Alerts at work: measured, kept, told to people and to machines, and taken from Alertmanager."""
