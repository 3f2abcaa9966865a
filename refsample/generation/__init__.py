"""Model, text and sampling joined: prompts in, token events out. Knows nothing of providers or HTTP."""
