"""The sampler once more, as one would write it on paper: lists, loops, fifty digits. Shares no code with refsample.

Written from `specs/engines/*.toml` and the papers; `make_vectors.py` makes the vectors with it, and tests hold the
pipeline to it. Two numbers closer than 1e-12 are equal, as the definition of the vectors says.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal, getcontext
from typing import Any

getcontext().prec = 50
ZERO, ONE, CUT, EQUAL = Decimal(0), Decimal(1), None, Decimal("1e-12")
Logits = list[Decimal | None]
Rules = Mapping[str, Any]


def exact(value: float) -> Decimal | None:
    """A float as it is; -inf is cut."""
    return CUT if value == float("-inf") else Decimal(value)


def softmax(logits: Logits) -> list[Decimal]:
    top = max(x for x in logits if x is not None)
    weights = [ZERO if x is None else (x - top).exp() for x in logits]
    total = sum(weights, ZERO)
    return [w / total for w in weights]


def entropy(probs: Sequence[Decimal]) -> Decimal:
    return -sum((p * p.ln() for p in probs if p), ZERO)


def ranked(logits: Logits, highest_id_first: bool = False) -> list[int]:
    """Ids that are not cut, best first."""
    alive = [i for i, x in enumerate(logits) if x is not None]
    return sorted(alive, key=lambda i: (-(logits[i] or ZERO), -i if highest_id_first else i))


def only(logits: Logits, kept: Sequence[int]) -> Logits:
    stays = frozenset(kept)
    return [x if i in stays else CUT for i, x in enumerate(logits)]


def tied(logits: Logits, kept: list[int]) -> list[int]:
    """What is kept, and all that equal the last of it."""
    return [i for i in ranked(logits) if logits[i] >= logits[kept[-1]]]  # type: ignore[operator]


def history(prompt: Sequence[int], output: Sequence[int], scope: str, window: int) -> list[int]:
    both = list(output) if scope == "output" else [*prompt, *output]
    return both[-window:] if scope == "window" else both


class Sampler:
    """One decision: `run` goes through the engine's steps; `params` hold only what is not neutral."""

    def __init__(
        self, params: Mapping[str, Any], rules: Rules, prompt: Sequence[int], output: Sequence[int],
        allowed: Sequence[int] | None = None, coin: bool = True, mu: float | None = None,
    ) -> None:  # fmt: skip
        self.params, self.rules, self.prompt, self.output = params, rules, prompt, output
        self.allowed, self.coin, self.mu = allowed, coin, mu
        self.base: Logits = []
        self.degrees = ONE
        self.listed = 0
        order = rules["mirostat_order"] if params.get("mirostat") and rules["mirostat_order"] else rules["order"]
        self.order: Sequence[str] = order

    def get(self, name: str, neutral: float) -> Decimal:
        return Decimal(float(self.params.get(name, neutral)))

    def _degrees(self) -> Decimal:
        """Clamped, and 0 where that is greedy."""
        t, clamp = self.get("temperature", 1.0), Decimal(self.rules["temperature_clamp"])
        t = clamp if 0 < t < clamp else t
        return ZERO if t < Decimal(self.rules["greedy_below"]) else t

    def run(self, logits: Logits, order: Sequence[str] | None = None) -> Logits:
        """The logits after the steps, or after some of them."""
        self.base, self.listed = list(logits), len(logits)
        for name in self.order if order is None else order:
            alive = [x is not None for x in logits]
            new = getattr(self, name)(logits)
            if name == "dynamic_temperature" and self.base != logits:
                self.base = self._divided(self.base, self.degrees or ONE)
            elif name not in TRUNCATIONS:
                self.base = new if self.base == logits else getattr(self, name)(self.base)
            elif name == "top_k" and self.params.get("top_k", 0) > 0:
                places = max(self.params["top_k"], self.rules["min_tokens_to_keep"])
                self.listed = max(sum(x is not None for x in new), min(self.listed, places))
            elif name == "xtc":
                self.listed -= sum(was and x is None for was, x in zip(alive, new, strict=True))
            elif name != "top_n_sigma" and new is not logits:
                self.listed = sum(x is not None for x in new)
            logits = new
        return logits

    # --- adjustments ---------------------------------------------------------------------------------------------

    def mask(self, logits: Logits) -> Logits:
        listed, banned = self.params.get("allowed_token_ids"), self.params.get("banned_token_ids", ())
        return [
            CUT if i in banned or (listed is not None and i not in listed)
            or (self.allowed is not None and i not in self.allowed) else x
            for i, x in enumerate(logits)
        ]  # fmt: skip

    def logit_bias(self, logits: Logits) -> Logits:
        out, clamp = list(logits), self.rules["bias_clamp"]
        for token, value in self.params.get("logit_bias", {}).items():
            held = max(-clamp, min(clamp, value))
            if out[token] is not None:
                out[token] = CUT if held == float("-inf") else out[token] + Decimal(float(held))
        return out

    def _seen(self, scope: str) -> list[int]:
        return history(self.prompt, self.output, self.rules[scope], self.rules["penalty_window"])

    def repetition(self, logits: Logits) -> Logits:
        if self.get("repetition_penalty", 1.0) == 1:
            return logits
        r = self.get("repetition_penalty", 1.0)
        seen = set(self._seen("repetition_scope"))
        return [x if x is None or i not in seen else x / r if x > 0 else x * r for i, x in enumerate(logits)]

    def frequency(self, logits: Logits) -> Logits:
        seen, f = self._seen("additive_scope"), self.get("frequency_penalty", 0.0)
        if not f:
            return logits
        whole = Decimal(len(seen)) if self.rules["frequency_form"] == "relative" and seen else ONE
        return [x if x is None else x - f * seen.count(i) / whole for i, x in enumerate(logits)]

    def presence(self, logits: Logits) -> Logits:
        seen, p = self._seen("additive_scope"), self.get("presence_penalty", 0.0)
        return [x if x is None or i not in seen else x - p for i, x in enumerate(logits)]

    def no_repeat_ngram(self, logits: Logits) -> Logits:
        n, ids = self.params.get("no_repeat_ngram_size", 0), [*self.prompt, *self.output]
        if not n or len(ids) + 1 < n:
            return logits
        runs = {tuple(ids[i : i + n]) for i in range(len(ids) - n + 1)}
        return [CUT if (*ids[len(ids) + 1 - n :], i) in runs else x for i, x in enumerate(logits)]

    def dry(self, logits: Logits) -> Logits:
        multiplier, base = self.get("dry_multiplier", 0.0), self.get("dry_base", 1.75)
        allowed, last = self.params.get("dry_allowed_length", 2), self.params.get("dry_penalty_last_n", -1)
        ids = [*self.prompt, *self.output]
        ids = ids if last < 0 else ids[max(0, len(ids) - last) :]
        breakers = [tuple(run) for run in self.params.get("dry_sequence_breakers", ())]
        if not multiplier or len(ids) <= allowed:
            return logits
        since = len(ids)
        for start in range(len(ids) - 1, -1, -1):
            fits = [len(run) for run in breakers if tuple(ids[start : start + len(run)]) == run]
            if fits:
                since = len(ids) - start - max(fits)
                break
        out = list(logits)
        for token in range(len(logits)):
            longest = -1
            for place in range(1, len(ids)):  # an earlier place where this token stands
                if ids[place] == token:
                    length = 0
                    while length < min(place, since) and ids[place - 1 - length] == ids[-1 - length]:
                        length += 1
                    longest = max(longest, length)
            if longest >= allowed and since >= allowed and (token,) not in breakers and out[token] is not None:
                out[token] -= multiplier * base ** (longest - allowed)  # type: ignore[operator]
        return out

    # --- temperature ---------------------------------------------------------------------------------------------

    def greedy(self, logits: Logits) -> Logits:
        if self.params.get("dynatemp_range") or self._degrees() != 0:
            return logits
        best = ranked(logits)[:1]
        return only(logits, tied(logits, best) if self.rules["greedy_ties"] == "all" else best)

    def _divided(self, logits: Logits, t: Decimal) -> Logits:
        return [None if x is None else x / t for x in logits]

    def temperature(self, logits: Logits) -> Logits:
        t = self._degrees()
        return logits if self.params.get("dynatemp_range") or t == 0 else self._divided(logits, t)

    def dynamic_temperature(self, logits: Logits) -> Logits:
        width, alive, self.degrees = self.get("dynatemp_range", 0.0), ranked(logits), ONE
        if not width or len(alive) == 1:
            return logits
        low, high = max(ZERO, self.get("temperature", 1.0) - width), self.get("temperature", 1.0) + width
        count = self.listed if self.rules["dynatemp_base"] == "listed" else len(alive)
        share = entropy(softmax(logits)) / Decimal(count).ln()
        self.degrees = t = low + (high - low) * share ** self.get("dynatemp_exponent", 1.0)
        return only(logits, alive[:1]) if t == 0 else self._divided(logits, t)

    # --- truncations ---------------------------------------------------------------------------------------------

    def _least(self, logits: Logits, kept: list[int], ties: bool = False) -> Logits:
        """`kept`, or the best few where it holds fewer than any truncation leaves."""
        best = ranked(logits)[: self.rules["min_tokens_to_keep"]]
        if len(kept) >= len(best):
            return only(logits, kept)
        return only(logits, tied(logits, best) if ties else best)

    def _above(self, logits: Logits, log_share: Decimal, ties: bool = False) -> Logits:
        """Tokens of at least this share (as a log) of the whole."""
        probs = softmax(logits)
        return self._least(logits, [i for i in ranked(logits) if probs[i].ln() >= log_share - EQUAL], ties)

    def min_p(self, logits: Logits) -> Logits:
        share = self.get("min_p", 0.0)
        return self._above(logits, max(softmax(logits)).ln() + share.ln()) if share else logits

    def top_k(self, logits: Logits) -> Logits:
        k = self.params.get("top_k", 0)
        if k <= 0:
            return logits
        best = ranked(logits)[: max(k, self.rules["min_tokens_to_keep"])]
        return only(logits, tied(logits, best) if self.rules["top_k_ties"] == "keep_all" else best)

    def top_p(self, logits: Logits) -> Logits:
        p, rules = self.get("top_p", 1.0), self.rules
        if p >= 1:
            return logits
        probs, kept, above = softmax(logits), [], ZERO
        whole = ONE
        if rules["top_p_base"] == "joint":
            left = softmax(self.base)
            whole = 1 / sum((left[i] for i in ranked(logits)), ZERO)
        for i in ranked(logits, highest_id_first=rules["top_p_ties"] == "high_id"):
            mass = above / whole
            stays = mass < p - EQUAL if rules["top_p_rule"] == "ge" else mass <= p + EQUAL
            if not stays and len(kept) >= rules["min_tokens_to_keep"]:
                break
            kept.append(i)
            above += probs[i]
        return only(logits, tied(logits, kept) if rules["top_p_ties"] == "all" else kept)

    def typical_p(self, logits: Logits) -> Logits:
        p, rules = self.get("typical_p", 1.0), self.rules
        if p >= 1:
            return logits
        probs = softmax(logits)
        middle = entropy(probs)
        distance = {i: abs(-probs[i].ln() - middle) for i in ranked(logits)}
        kept, before = [], ZERO
        for i in sorted(distance, key=lambda i: (distance[i].quantize(EQUAL * EQUAL), i)):
            stays = before < p - EQUAL if rules["typical_rule"] == "ge" else before <= p + EQUAL
            if not stays and len(kept) >= rules["min_tokens_to_keep"]:
                break
            kept.append(i)
            before += probs[i]
        if rules["typical_ties"] == "all":
            kept = [i for i in distance if distance[i] <= distance[kept[-1]] + EQUAL]
        return only(logits, kept)

    def top_h(self, logits: Logits) -> Logits:
        share, ranks = self.get("top_h", 0.0), self.rules["top_h_ranks"]
        if not share:
            return logits
        listed = ranked(logits)[: ranks or None]
        probs = softmax(only(logits, listed))
        bound, total, kept = share * entropy(probs), ZERO, []
        for i in listed:
            total -= probs[i] * probs[i].ln()
            if total <= bound + EQUAL or len(kept) < self.rules["min_tokens_to_keep"]:
                kept.append(i)
        return only(logits, kept)

    def top_n_sigma(self, logits: Logits) -> Logits:
        n, alive = self.get("top_n_sigma", 0.0), ranked(logits)
        if n <= 0:
            return logits
        values = [logits[i] or ZERO for i in alive]
        mean = sum(values, ZERO) / len(values)
        sigma = (sum(((x - mean) ** 2 for x in values), ZERO) / len(values)).sqrt()
        return self._least(logits, [i for i in alive if (logits[i] or ZERO) >= values[0] - n * sigma - EQUAL])

    def tail_free(self, logits: Logits) -> Logits:
        z, listed, least = self.get("tfs_z", 1.0), ranked(logits), self.rules["min_tokens_to_keep"]
        if z >= 1 or len(listed) <= least + 2:
            return logits
        probs = softmax(logits)
        p = [probs[i] for i in listed]
        bends = [abs((p[i] - p[i + 1]) - (p[i + 1] - p[i + 2])) for i in range(len(p) - 2)]
        total = sum(bends, ZERO)
        shares = [b / total if total > Decimal("1e-6") else ONE / len(bends) for b in bends]
        gone = ZERO
        for place, share in enumerate(shares):
            gone += share
            if gone > z + EQUAL and place >= least:
                return only(logits, listed[:place])
        return logits

    def top_a(self, logits: Logits) -> Logits:
        a = self.get("top_a", 0.0)
        return self._above(logits, a.ln() + 2 * max(softmax(logits)).ln()) if a else logits

    def epsilon(self, logits: Logits) -> Logits:
        cutoff = self.get("epsilon_cutoff", 0.0)
        return self._above(logits, cutoff.ln(), ties=self.rules["floor_ties"] == "all") if cutoff else logits

    def eta(self, logits: Logits) -> Logits:
        cutoff = self.get("eta_cutoff", 0.0)
        if not cutoff:
            return logits
        bound = min(cutoff.ln(), cutoff.ln() / 2 - entropy(softmax(logits)))
        return self._above(logits, bound)

    def xtc(self, logits: Logits) -> Logits:
        threshold, probs = self.get("xtc_threshold", 0.1), softmax(logits)
        if not self.params.get("xtc_probability") or not self.coin:
            return logits
        strict = self.rules["xtc_rule"] == "gt"
        top = [i for i in ranked(logits) if (
            not threshold or (probs[i].ln() > threshold.ln() + EQUAL if strict
                              else probs[i].ln() >= threshold.ln() - EQUAL))]  # fmt: skip
        if len(top) < 2 or len(ranked(logits)) - len(top) + 1 < self.rules["min_tokens_to_keep"]:
            return logits
        least = logits[top[-1]]
        spared = [i for i in top if logits[i] == least] if self.rules["xtc_ties"] == "all" else top[-1:]
        return [CUT if i in top and i not in spared else x for i, x in enumerate(logits)]

    def mirostat(self, logits: Logits) -> Logits:
        if self.params.get("mirostat") != 2:
            return logits
        mu = 2 * self.get("mirostat_tau", 5.0) if self.mu is None else Decimal(self.mu)
        return self._above(logits, -mu * Decimal(2).ln())


TRUNCATIONS = frozenset({
    "min_p", "top_k", "top_p", "typical_p", "top_h", "top_n_sigma", "tail_free", "top_a", "epsilon", "eta", "xtc",
    "mirostat",
})  # fmt: skip


def law(
    logits: Sequence[float], params: Mapping[str, Any], rules: Rules, prompt: Sequence[int] = (),
    output: Sequence[int] = (), allowed: Sequence[int] | None = None, mu: float | None = None,
) -> list[Decimal]:  # fmt: skip
    """Probabilities [V]: the mixture over XTC's coin, and over a redraw where the engine makes one."""
    if allowed is not None and rules["grammar_rule"] == "redraw":
        free, masked = (law(logits, params, rules, prompt, output, mu=mu),
                        _mixed(logits, params, rules, prompt, output, allowed, mu))  # fmt: skip
        rejected = sum((p for i, p in enumerate(free) if i not in allowed), ZERO)
        return [(p if i in allowed else ZERO) + rejected * m for i, (p, m) in enumerate(zip(free, masked, strict=True))]
    return _mixed(logits, params, rules, prompt, output, allowed, mu)


def _mixed(
    logits: Sequence[float], params: Mapping[str, Any], rules: Rules, prompt: Sequence[int], output: Sequence[int],
    allowed: Sequence[int] | None, mu: float | None,
) -> list[Decimal]:  # fmt: skip
    start: Logits = [exact(float(x)) for x in logits]
    chance = Decimal(float(params.get("xtc_probability", 0.0)))
    heads = softmax(Sampler(params, rules, prompt, output, allowed, True, mu).run(list(start)))
    if chance in (0, 1):
        return heads
    tails = softmax(Sampler(params, rules, prompt, output, allowed, False, mu).run(list(start)))
    return [chance * a + (1 - chance) * b for a, b in zip(heads, tails, strict=True)]


def logprobs(
    logits: Sequence[float], params: Mapping[str, Any], rules: Rules, prompt: Sequence[int] = (),
    output: Sequence[int] = (), allowed: Sequence[int] | None = None,
) -> list[Decimal | None]:  # fmt: skip
    """Logprobs [V] at the engine's own stage; None where cut. Without XTC's coin."""
    one = Sampler(params, rules, prompt, output, allowed)
    start: Logits = [exact(float(x)) for x in logits]
    stage, order = rules["logprob_stage"], list(one.order)
    last = {"post_penalty": ADJUSTS, "post_temperature": {"greedy", "temperature", "dynamic_temperature"}}
    greedy = not params.get("dynatemp_range") and one._degrees() == 0
    if stage == "raw":
        steps: list[str] = []
    elif stage == "raw_grammar":
        steps, start = [], [x if allowed is None or i in allowed else CUT for i, x in enumerate(start)]
    elif stage == "raw_masked":
        steps = ["mask"]
    elif greedy and rules["greedy_logprobs"] == "temperature_one":
        steps = [name for name in order if name in ADJUSTS]
    elif stage == "post_truncation":
        steps = order
    else:
        steps = order[: max((i for i, name in enumerate(order) if name in last[stage]), default=-1) + 1]
    return [p.ln() if p else None for p in softmax(one.run(start, steps))]


ADJUSTS = {"mask", "logit_bias", "repetition", "frequency", "presence", "no_repeat_ngram", "dry"}


def draw(probs: Sequence[Decimal], u: float) -> int:
    """The first id, in id order, whose cumulative mass exceeds u."""
    total = ZERO
    for i, p in enumerate(probs):
        total += p
        if total > Decimal(u):
            return i
    raise AssertionError("u is below 1")
