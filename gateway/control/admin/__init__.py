"""The admin API: HTTP for operators, scrapers and probes, on a port of its own."""
