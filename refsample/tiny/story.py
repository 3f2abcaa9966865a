"""The story grammar: its productions, `tell_story` and `parse_story`; knows nothing of questions and documents.

A story has an opening, a trait and one of ten plots; what a plot binds (hero n, friend f, place p, thing o, feeling e)
must agree to the last sentence. Every feeling comes with its cause.
"""

from __future__ import annotations

from random import Random

from refsample.tiny.grammar import Env, compile_grammar, parse, write

_RULES: dict[str, tuple[str, ...]] = {
    "story": ("<open> <trait> <plot>", "<open> <plot>"),
    "open": (
        "Once upon a time there was a girl named {n:girl}.",
        "Once upon a time there was a boy named {n:boy}.",
        "Once upon a time there was {a oq:trait} girl named {n:girl}.",
        "Once upon a time there was {a oq:trait} boy named {n:boy}.",
        "Once upon a time there was {a oq:trait} {ok:animal} named {n:name}.",
        "Once upon a time {a ok:animal} named {n:name} lived near the {ol:place}.",
        "Once upon a time, in {a os:size} house by the {ol:place}, there lived a girl named {n:girl}.",
        "Once upon a time, in {a os:size} house by the {ol:place}, there lived a boy named {n:boy}.",
        "Once upon a time {n:name} lived in {a os:size} house near the {ol:place}.",
        "Long ago, in {a os:size} {ol:place}, there lived {a ok:animal} named {n:name}.",
        "{n:girl} was {a oq:trait} girl.",
        "{n:boy} was {a oq:trait} boy.",
        "There once was {a oq:trait} {ob:job} named {n:name}.",
    ),
    "trait": (
        "{n.He} loved {t1:food} and {t2:food}.",
        "{n.He} had {a t1:colour} {t2:thing} and {a t3:colour} {t4:thing}.",
        "{n.He} lived there with {n.his} {t1:relative} and {a t2:animal}.",
        "Everyone said that {n.he} was {t1:trait} and {t2:trait}.",
        "{n.His} best friend was {a t1:animal}.",
        "Every {t1:day} {n.he} went to the {t2:place} to {t3:action}.",
        "More than anything, {n.he} liked to {t1:action}.",
        "{n.His} {t1:relative} was {a t2:job}.",
        "{n.He} dreamed of being {a t1:job}.",
    ),
    "plot": (
        "<lost>", "<fright>", "<hunger>", "<contest>", "<dull>", "<gift>", "<stuck>", "<quarrel>", "<trip>", "<garden>",
    ),  # fmt: skip
    "lost": (
        "One {d:morning} {n} went to the {p:place} with {n.his} {c:colour} {o:thing}. "
        "<losing> <missing> <found> <glad>",
    ),
    "losing": (
        "On the way {n.he} dropped the {o} in the {w:place}.",
        "There {n.he} played all day, and then the {o} was gone.",
        "The wind came and took the {o} away.",
        "But {a w:animal} grabbed the {o} and ran off.",
    ),
    "missing": (
        "{n} was {e:sad} because the {o} was gone.",
        "{n.He} was {e:sad} because {n.he} could not find the {o}.",
        '"Oh no, where is my {o}?" cried {n}. {n.He} felt {e:sad}.',
    ),
    "found": (
        "{f:name} saw that {n} was {e} and wanted to help. They looked behind the {h:spot} and under the {i:spot}. "
        "There was the {o}!",
        '"Why are you {e}?" asked {f:name}. "Because my {o} is gone," said {n}. '
        "Then {f} found the {o} under the {h:spot}.",
        "But {n.his} friend {f:name} looked in the {h:room} and found the {c} {o}.",
    ),
    "glad": (
        "{n} was {j:happy} and thanked {f}.",
        '"Thank you, {f}!" said {n}. From that day on {n.he} took good care of the {c} {o}.',
        "{n} hugged {f}, and they went home to eat {y:food}.",
        "Now {n} was not {e} any more, and {n} and {f} were friends.",
    ),
    "fright": (
        "One night {n} heard {a z:noise} noise in the {p:room}. {n.He} was {e:scared} because <dread>. "
        "{n.He} called {n.his} {r:relative}. <look>",
    ),
    "dread": (
        "it was very dark",
        "{n.he} was alone in bed",
        "{n.he} thought it was {a m:animal}",
        "the noise came closer and closer",
    ),
    "look": (
        "The {r} took {a o:thing} and looked in the {p}. It was only {a v:animal}! {n} laughed and gave the {v} "
        "some {x:food}.",
        '"Do not be {e}," said the {r}. "It is only {a v:animal}." {n} looked at the {v} and was not {e} any more.',
        "Together they went to the {p} and found {a s:size} {o:thing}. The wind had moved the {o}. "
        "Then {n} slept well.",
    ),
    "hunger": (
        "One {d:morning} {n} was {e:hungry} because {n.he} had no {x:food} left. {n.He} walked to the {p:place} and "
        "asked the {j:job} for some {x}. <offer> <share>",
    ),
    "offer": (
        '"I have no {x}," said the {j}, "but you can have {y:food}."',
        "The {j} had no {x}, only {y:food}.",
        '"Take this {y:food}," said the {j}, "for the {x} is all gone."',
    ),
    "share": (
        '{n} took the {y} and shared it with {n.his} friend {f:name}. "How {u:tasty}!" said {f}.',
        "{n} tried the {y}, and it was {u:tasty}. Now {n} was not {e} any more.",
        "{n} ate all the {y} and thanked the {j}. After that day {n.he} liked {y} more than {x}.",
    ),
    "contest": (
        "{n.He} wanted to win the {z:contest} at the {p:place}. Every {d:day} {n.he} practised with {n.his} friend "
        "{f:name}. <trying> <winning>",
    ),
    "trying": (
        "At first {n} was {e:tired} because the {z} was so long.",
        "At first {n} was {e:sad} because {f} was always faster.",
        '"It is too hard," said {n}. "Try once more," said {f}.',
    ),
    "winning": (
        "At last {n} won the {z}. {n.He} was {g:proud} because {n.he} had worked so hard. The prize was {a c:colour} "
        "{o:thing}.",
        "At last the day came, and {n} won {a c:colour} {o:thing}. {n} gave the {o} to {f}.",
        "{n} did not win the {z}, but {n.he} was {j:happy} because {f} had won {a c:colour} {o:thing}.",
    ),
    "dull": (
        "It was {a w:weather} {d:day} and {n} could not go to the {p:place}. {n.He} was {e:bored} because <idle>. "
        "Then {f:name} came with {a o:thing} and some {m:material}. <making>",
    ),
    "idle": (
        "there was nothing to do",
        "all the games were old",
        "there was no one to play with",
        "{n.his} {r:relative} was asleep",
    ),
    "making": (
        "They made {a v:animal} out of the {m} and put it on the {o}. {n} was not {e} any more.",
        'Together they made {a c:colour} {t:thing} out of {m}. "What {a u:size} day!" said {f}.',
        "They took the {o} and the {m} and made {a v:animal}. {n} called the {v} {y:name}.",
    ),
    "gift": (
        "It was the birthday of {f:name}. {n} wanted to give {f.him} {a c:colour} {o:thing}, but {n.he} had only "
        "{x:count} coins. <earning> <giving>",
    ),
    "earning": (
        "So {n.he} helped the {j:job} at the {p:place} until the evening, and the {j} gave {n.him} {y:count} coins.",
        "So {n.he} went to the {p:place} and sold {n.his} {t:thing} to the {j:job}.",
        "So {n.he} made the {o} out of {m:material} all alone.",
    ),
    "giving": (
        "{f} was {e:happy} because the {o} was {c}, and {c} was the colour {f.he} loved.",
        '"What a lovely {o}!" said {f}. {n} was {g:proud} because the gift was so good.',
        "When {f} saw the {c} {o}, {f.he} was {e:happy} and gave {n} some {z:food}.",
    ),
    "stuck": (
        "One {d:morning} {n} saw {a v:animal} in the {p:place}. The {v} was {e:sad} because its {b:limb} was stuck "
        "under {a h:spot}. <freeing> <reward>",
    ),
    "freeing": (
        "{n} pulled and pulled until the {v} was free.",
        "{n} called {n.his} friend {f:name}, and together they lifted the {h}.",
        '"Do not be {e}," said {n}, and moved the {h} away with {a o:thing}.',
    ),
    "reward": (
        '"Thank you, {n}!" said the {v}. "I will never forget you." Later, when {n} was lost in the {w:place}, the '
        "{v} showed {n.him} the way home.",
        "The {v} was {j:happy} and gave {n} {a c:colour} {t:thing}.",
        "From that day on the {v} lived with {n} and ate {x:food} every {y:morning}.",
    ),
    "quarrel": (
        "One {d:day} {n} and {f:name} played with {a c:colour} {o:thing} in the {p:place}. Then {f} broke the {o}. "
        "{n} was {e:angry} because the {o} was new. <sorry>",
    ),
    "sorry": (
        '"I am sorry," said {f}, and gave {n} {a t:thing}. Then {n} was not {e} any more.',
        '{f} went home and came back with {a h:colour} {o}. "This is for you," said {f}. {n} was {j:happy} again.',
        '"Do not be {e}," said {f}. They mended the {o} with {m:material}, and it was as good as new.',
    ),
    "trip": (
        "One {d:day} {n} wanted to see the {p:place}. {n.His} {r:relative} gave {n.him} {x:food}, {y:food} and "
        "{a o:thing}. {n.He} walked past the {w:place} and the {u:place}. <arrival>",
    ),
    "arrival": (
        "At the {p} {n.he} met {f:name}, who was {e:hungry} because <far>. {n} gave {f.him} the {x} and the {y}.",
        "At the {p} {n.he} was {e:tired} because <far>. {n.He} ate the {x} and slept under {a h:spot}.",
        "At last {n.he} came to the {p}. There {n.he} saw {a v:animal} and gave it the {o}. The {v} was {j:happy}.",
    ),
    "far": ("the way was long", "the sun was hot", "the day had been long", "there was nothing to eat at the {w}"),
    "garden": (
        "{n.He} had a garden behind the {p:place}. In {s:season} {n.he} planted {x:crop} and {y:crop}. <growing>",
    ),
    "growing": (
        'But {a v:animal} ate the {x}, and {n} was {e:angry} because the work had been hard. "Let us share," said '
        "the {v}. So the {v} ate the {x} and {n} ate the {y}.",
        "The {y} grew as high as {a o:thing}. {n} was {e:proud} because the {y} won a prize at the {m:place}.",
        "It did not rain, and {n} was {e:sad} because the {x} did not grow. Then {f:name} brought water, and soon the "
        "garden was {c:colour} again.",
    ),
}
PLOTS = tuple(symbol[1:-1] for symbol in _RULES["plot"])
STORIES = compile_grammar(_RULES)


def tell_story(rng: Random, env: Env | None = None) -> tuple[str, Env]:
    """A story and what it binds; `env` may name the hero {"n": ...} and the friend {"f": ...} beforehand."""
    bound = dict(env or {})
    return write(STORIES, "story", rng, bound), bound


def tell_plot(rng: Random, plot: str, env: Env) -> tuple[str, Env]:
    """One plot without an opening, about the hero env["n"]."""
    bound = dict(env)
    return write(STORIES, plot, rng, bound), bound


def parse_story(text: str) -> Env | None:
    """What a story binds, or None when the grammar cannot write the text."""
    return parse(STORIES, "story", text)
