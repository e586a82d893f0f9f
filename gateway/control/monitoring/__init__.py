"""Watching both arms and acting on it: what the ticks amount to, and what the rollout is told."""
