"""One module a command: its options and its exit code. What it does lives elsewhere."""
