"""One module per command: its options and its exit code. The work itself is done elsewhere."""
