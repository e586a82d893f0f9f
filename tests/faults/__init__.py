"""Faults injected into running gateways, on real sockets and processes. README.md says where each is shown."""
