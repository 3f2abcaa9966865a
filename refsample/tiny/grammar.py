"""A grammar with agreement that both writes and parses; knows no story, only productions it is given.

A production is text in which `<symbol>` expands a symbol and `{...}` is a slot:
  {x:animal}    a word of the class, bound to x from here on. People differ from all others in the text, other words
                from those of their sentence; a writer takes a word that was not there at all.
  {a x:animal}  the same with its article, "an owl"
  {x}  {a x}  {X x}   the word bound to x again; with its article; with a capital
  {x.he}        he, him, his, He or His for the person bound to x
Writing and parsing read the same compiled productions, so neither can know what the other does not.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from random import Random

from refsample.tiny import words

Env = dict[str, str]
PEOPLE = frozenset({"girl", "boy", "name"})


@dataclass(frozen=True, slots=True)
class Slot:
    """One `{...}`: `prefix` is "", "a" or "X"; `kind` a word class or ""; `form` a pronoun form or ""."""

    var: str
    prefix: str
    kind: str
    form: str


@dataclass(frozen=True, slots=True)
class Symbol:
    """One `<...>`."""

    name: str


Atom = str | Slot | Symbol
Grammar = Mapping[str, tuple[tuple[Atom, ...], ...]]
_ATOM = re.compile(r"<(?P<symbol>\w+)>|\{(?:(?P<prefix>[aX]) )?(?P<var>\w+)(?::(?P<kind>\w+)|\.(?P<form>\w+))?\}")
_WORD = re.compile(r"[^\W\d_]+")


def compile_production(text: str) -> tuple[Atom, ...]:
    """The atoms of one production."""
    atoms: list[Atom] = []
    at = 0
    for m in _ATOM.finditer(text):
        if m.start() > at:
            atoms.append(text[at : m.start()])
        at = m.end()
        if m["symbol"]:
            atoms.append(Symbol(m["symbol"]))
        else:
            atoms.append(Slot(m["var"], m["prefix"] or "", m["kind"] or "", m["form"] or ""))
    if at < len(text):
        atoms.append(text[at:])
    return tuple(atoms)


def compile_grammar(rules: Mapping[str, tuple[str, ...]]) -> Grammar:
    """Compiles every production; raises KeyError for a symbol or class that does not exist."""
    grammar = {name: tuple(compile_production(text) for text in texts) for name, texts in rules.items()}
    for atoms in (atoms for productions in grammar.values() for atoms in productions):
        for atom in atoms:
            if isinstance(atom, Symbol):
                grammar[atom.name]
            elif isinstance(atom, Slot) and atom.kind:
                words.CLASSES[atom.kind]
    return grammar


def _spell(slot: Slot, word: str) -> str:
    if slot.form:
        return words.pronoun(word, slot.form)
    if slot.prefix == "a":
        return words.article(word)
    return word.capitalize() if slot.prefix == "X" else word


def _bind(slot: Slot, env: Env, rng: Random) -> str | None:
    """The word for a slot, bound if new; None if what is bound already is not of the slot's class."""
    if slot.var in env:
        word = env[slot.var]
        return word if not slot.kind or word in words.MEMBERS[slot.kind] else None
    taken = set(env.values())
    word = words.draw(rng, slot.kind)
    while word in taken:
        word = words.draw(rng, slot.kind)
    env[slot.var] = word
    return word


def _attempt(grammar: Grammar, atoms: tuple[Atom, ...], rng: Random, env: Env) -> str | None:
    """The text of one production, or None where a word bound before does not agree with it."""
    parts: list[str] = []
    for atom in atoms:
        if isinstance(atom, str):
            parts.append(atom)
        elif isinstance(atom, Symbol):
            parts.append(write(grammar, atom.name, rng, env))
        else:
            word = _bind(atom, env, rng)
            if word is None:
                return None
            parts.append(_spell(atom, word))
    return "".join(parts)


def write(grammar: Grammar, symbol: str, rng: Random, env: Env) -> str:
    """A random text of the symbol. `env` may hold words bound beforehand and receives those that are bound here.

    Raises ValueError when no production agrees with the words bound beforehand.
    """
    for production in rng.sample(grammar[symbol], len(grammar[symbol])):
        trial = dict(env)
        text = _attempt(grammar, production, rng, trial)
        if text is not None:
            env.update(trial)
            return text
    raise ValueError(f"no production of {symbol!r} agrees with {env!r}")


def _sentence_so_far(text: str, at: int) -> list[str]:
    """The words of the sentence that `at` lies in, up to there."""
    return _WORD.findall(text, max(text.rfind(mark, 0, at) for mark in ".!?") + 1, at)


def _match_slot(slot: Slot, text: str, at: int, env: Env) -> tuple[int, Env] | None:
    if slot.var in env:
        word = env[slot.var]
        spelled = _spell(slot, word)
        agrees = (not slot.kind or word in words.MEMBERS[slot.kind]) and text.startswith(spelled, at)
        end = at + len(spelled)
        return (end, env) if agrees and not _WORD.match(text, end) else None
    found = _WORD.match(text, text.find(" ", at) + 1 if slot.prefix == "a" else at)
    if found is None or found[0] not in words.MEMBERS[slot.kind]:
        return None
    if found[0] in env.values() and (slot.kind in PEOPLE or found[0] in _sentence_so_far(text, at)):
        return None
    if not text.startswith(_spell(slot, found[0]), at):
        return None
    return found.end(), {**env, slot.var: found[0]}


def _match(grammar: Grammar, atoms: tuple[Atom, ...], text: str, at: int, env: Env) -> Iterator[tuple[int, Env]]:
    if not atoms:
        yield at, env
        return
    head, rest = atoms[0], atoms[1:]
    if isinstance(head, str):
        if text.startswith(head, at):
            yield from _match(grammar, rest, text, at + len(head), env)
    elif isinstance(head, Symbol):
        for production in grammar[head.name]:
            for end, bound in _match(grammar, production, text, at, env):
                yield from _match(grammar, rest, text, end, bound)
    else:
        step = _match_slot(head, text, at, env)
        if step is not None:
            yield from _match(grammar, rest, text, *step)


def parse(grammar: Grammar, symbol: str, text: str) -> Env | None:
    """The words bound in the first parse of the whole text as the symbol, or None if the grammar cannot write it."""
    for end, env in _match(grammar, (Symbol(symbol),), text, 0, {}):
        if end == len(text):
            return env
    return None
