"""Is treatment worse than it may be? The evidence for a rollback, as test martingales on folded ticks."""
