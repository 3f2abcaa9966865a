"""The transformer runtime: a folder of weights in, logits out. Knows nothing of text or sampling."""
