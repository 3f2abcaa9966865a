"""Spec files (`specs/*.toml`) as frozen data. Knows nothing of models, sampling or HTTP."""
