"""Frozen values that both planes share. Nothing here does anything."""
