"""The dashboard: one document of the current state, and the page that is rendered from it."""
