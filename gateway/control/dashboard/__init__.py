"""The dashboard: one document of what is going on, and the page that it is rendered into."""
