"""Faults injected into running gateways, on real sockets and processes; see README.md."""
