"""The embedded model `tiny`: its corpus generator, its training script, its weights and tokenizer."""

from pathlib import Path

FOLDER = Path(__file__).parent
