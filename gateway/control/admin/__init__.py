"""The admin API: HTTP for operators, scrapers and probes, on its own port."""
