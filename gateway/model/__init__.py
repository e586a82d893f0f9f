"""Frozen values: the vocabulary that both planes share. Nothing here does anything."""
