"""The figures, one module per question. Each measures a running proxy and adds samples to the results."""
