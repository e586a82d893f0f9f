"""What the supervisor is made of: starting, watching and ending processes. No event loop, no config."""
