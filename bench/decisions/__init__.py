"""The figures of automatic rollback: what the rules promise beside what the product's own code does."""
