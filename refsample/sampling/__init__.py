"""Logits to a distribution, a token and its logprobs. Knows nothing of models or text."""
