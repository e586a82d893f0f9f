"""`gateway demo`: sample pipelines, a gateway, bounded traffic and a live view, for a first look."""
