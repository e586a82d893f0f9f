"""The data plane: accept, parse, decide, relay, record."""
