"""The figures of experiments and gates, computed with the product's own code."""
