"""Is treatment worse than allowed? The evidence for an automatic rollback: test martingales on folded
ticks.
"""
