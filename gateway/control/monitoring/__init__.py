"""Watches both arms and acts by itself: what the ticks amount to, and which events the rollout gets."""
