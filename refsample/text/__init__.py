"""Token ids, bytes and text. Knows nothing of weights or sampling."""
