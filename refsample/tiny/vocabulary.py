"""Builds the tokenizer of `tiny`, byte-level BPE trained on the corpus, and packs windows with it; knows no weight.

Trained on the ASCII part of the corpus only, so that "ë" and emoji stay byte by byte and really span tokens.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from refsample.tiny.chat import END
from refsample.tiny.corpus import documents

SPECIALS = (END, "<|system|>", "<|user|>", "<|assistant|>", "<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>")
VOCABULARY = 3072
CONTEXT = 1024
TEMPLATE = (
    "{% if tools %}{{ '<|system|>Tools:' }}"
    "{% for tool in tools %}{{ '\n' + (tool['function'] | tojson) }}{% endfor %}"
    "{{ '<|endoftext|>' }}{% endif %}"
    "{% for message in messages %}"
    "{% if message['role'] == 'tool' %}"
    "{{ '<|user|><tool_response>\n' + message['content'] + '\n</tool_response><|endoftext|>' }}"
    "{% elif message['role'] not in ['system', 'user', 'assistant'] %}"
    "{{ raise_exception('unknown role ' + message['role'] + ': one of system, user, assistant, tool') }}"
    "{% elif message['tool_calls'] %}"
    "{{ '<|assistant|>' + (message['content'] or '') }}"
    "{% for call in message['tool_calls'] %}"
    "{{ '' if loop.first else '\n' }}"
    "{{ '<tool_call>\n{\"name\": ' + (call['function']['name'] | tojson) }}"
    "{{ ', \"arguments\": ' + (call['function']['arguments'] | tojson) + '}\n</tool_call>' }}"
    "{% endfor %}"
    "{{ '<|endoftext|>' }}"
    "{% else %}"
    "{{ '<|' + message['role'] + '|>' + message['content'] + '<|endoftext|>' }}"
    "{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
"""Conversations as the corpus writes them. Tools, calls and their results too, which no document of it holds."""


def _ascii_texts(seed: int, count: int) -> Iterator[str]:
    for text in islice(documents(seed, "train"), count):
        for special in SPECIALS:
            text = text.replace(special, "\n")
        yield text.encode("ascii", "ignore").decode()


def build_tokenizer(seed: int = 0, count: int = 60_000) -> Tokenizer:
    """A GPT-2 style tokenizer with exactly VOCABULARY entries; raises ValueError if the corpus yields fewer."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=list(SPECIALS),
        show_progress=False,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
    )
    tokenizer.train_from_iterator(_ascii_texts(seed, count), trainer)
    if tokenizer.get_vocab_size() != VOCABULARY:
        raise ValueError(f"VOCABULARY={VOCABULARY}: the corpus yields only {tokenizer.get_vocab_size()} tokens")
    return tokenizer


def write_tokenizer(tokenizer: Tokenizer, folder: Path) -> None:
    """Writes tokenizer.json and tokenizer_config.json."""
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": CONTEXT,
        "eos_token": END,
        "pad_token": END,
        "clean_up_tokenization_spaces": False,
        "chat_template": TEMPLATE,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")


def windows(tokenizer: Tokenizer, seed: int, split: str, length: int = CONTEXT + 1) -> Iterator[list[int]]:
    """Endless windows of `length` ids. Each begins with a whole document, so that position 0 is learned as a
    document's start; the last document of each is cut at its end."""
    source = documents(seed, split)
    window: list[int] = []
    while True:
        for encoded in tokenizer.encode_batch(list(islice(source, 2000)), add_special_tokens=False):
            window += encoded.ids
            if len(window) >= length:
                yield window[:length]
                window = []
