"""The comparison with other proxies, and the figures that the README states."""
