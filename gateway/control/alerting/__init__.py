"""Alerts: measured, stored, sent to people and machines, and received from Alertmanager."""
