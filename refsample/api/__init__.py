"""Where a request meets a provider's spec: bodies in, responses out, and the server around it."""
