"""The verifier: probes a live endpoint, compares it with the reference, names what differs."""
