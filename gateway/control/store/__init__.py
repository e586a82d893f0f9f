"""What the control process remembers: a small interface, and SQLite behind it."""
