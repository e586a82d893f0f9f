"""What the control process keeps on disk: a small interface, and SQLite behind it."""
