"""The parts of the supervisor: starting, watching and ending processes. No event loop, no config."""
