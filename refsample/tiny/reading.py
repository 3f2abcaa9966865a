"""Questions about a text in the prompt, and things to do with words given there; knows no document."""

from __future__ import annotations

import json
from random import Random

from refsample.tiny.questions import Question
from refsample.tiny.story import PLOTS, tell_plot, tell_story
from refsample.tiny.words import article, draw, is_girl

STORY_QUESTIONS: dict[str, tuple[tuple[str, str], ...]] = {
    "lost": (
        ("Where did {n} go?", "{n} went to the {p}."),
        ("What was gone?", "The {o} was gone."),
        ("Who helped {n}?", "{f} helped {n}."),
        ("What colour was the {o}?", "The {o} was {c}."),
        ("Why was {n} {e}?", "Because the {o} was gone."),
    ),
    "fright": (
        ("Where was the noise?", "The noise was in the {p}."),
        ("How did {n} feel?", "{n} was {e}."),
        ("Who came to help?", "The {r} came to help."),
    ),
    "hunger": (
        ("Who did {n} ask?", "{n} asked the {j}."),
        ("What did {n} want to eat?", "{n} wanted to eat {x}."),
        ("What did {n} eat?", "{n} ate {y}."),
        ("Why was {n} {e}?", "Because {n} had no {x} left."),
    ),
    "contest": (
        ("Who helped {n} to practise?", "{f} helped {n}."),
        ("What did {n} want to win?", "{n} wanted to win the {z}."),
        ("What was the prize?", "The prize was {a:c} {o}."),
        ("Where was the {z}?", "The {z} was at the {p}."),
    ),
    "dull": (
        ("Who came to play?", "{f} came to play."),
        ("How was the weather?", "It was {w}."),
        ("How did {n} feel at first?", "{n} was {e}."),
        ("What did {f} bring?", "{f} brought {a:o} and some {m}."),
    ),
    "gift": (
        ("Whose birthday was it?", "It was the birthday of {f}."),
        ("How many coins did {n} have?", "{n} had {x} coins."),
        ("What did {n} want to give?", "{n} wanted to give {f} {a:c} {o}."),
    ),
    "stuck": (
        ("Which animal was stuck?", "The {v} was stuck."),
        ("Where was the {v}?", "The {v} was in the {p}."),
        ("Why was the {v} {e}?", "Because its {b} was stuck under {a:h}."),
        ("Who helped the {v}?", "{n} helped the {v}."),
    ),
    "quarrel": (
        ("Who broke the {o}?", "{f} broke the {o}."),
        ("Why was {n} {e}?", "Because the {o} was new."),
        ("Where did they play?", "They played in the {p}."),
        ("What was broken?", "The {o} was broken."),
    ),
    "trip": (
        ("What did {n} want to see?", "{n} wanted to see the {p}."),
        ("Who gave {n} food?", "The {r} gave {n} food."),
        ("What did {n} get to eat?", "{n} got {x} and {y}."),
    ),
    "garden": (
        ("What did {n} plant?", "{n} planted {x} and {y}."),
        ("Where was the garden?", "The garden was behind the {p}."),
        ("When did {n} plant {x}?", "{n} planted {x} in {s}."),
    ),
}


def fill(text: str, env: dict[str, str]) -> str:
    """The text with {x} and {a:x} (with article) replaced by what is bound."""
    for var, word in env.items():
        text = text.replace("{" + var + "}", word).replace("{a:" + var + "}", article(word))
    return text


def story_questions(rng: Random, plot: str, env: dict[str, str]) -> list[tuple[str, str]]:
    """Two different questions, with their answers, about a plot and what it binds."""
    chosen = rng.sample([qa for qa in STORY_QUESTIONS[plot] if "{f}" not in qa[0] + qa[1] or "f" in env], 2)
    return [(fill(q, env), fill(a, env)) for q, a in chosen]


def plot_with_opening(rng: Random) -> tuple[str, str, dict[str, str]]:
    """A short story text that names its hero, its plot, and what it binds."""
    name = draw(rng, "name")
    plot = rng.choice(PLOTS)
    text, env = tell_plot(rng, plot, {"n": name})
    start = f"{name} was {article('girl' if is_girl(name) else 'boy')}. " if plot in ("contest", "garden") else ""
    return start + text, plot, env


def _about_story(rng: Random) -> Question:
    text, plot, env = plot_with_opening(rng)
    question, reply = story_questions(rng, plot, env)[0]
    return Question("story", f"{text}\n{question}" if rng.random() < 0.6 else f"{question}\n{text}", (reply,), (reply,))


def _people(rng: Random) -> Question:
    count = rng.randint(2, 4)
    names = distinct(rng, "name", count)
    kind = rng.choice(("have", "go", "like"))
    if kind == "have":
        things, colours = distinct(rng, "thing", count), [draw(rng, "colour") for _ in names]
        text = " ".join(f"{n} has {article(c)} {t}." for n, c, t in zip(names, colours, things, strict=True))
        i = rng.randrange(count)
        n, c, t = names[i], colours[i], things[i]
        question, reply = rng.choice(
            (
                (f"Who has the {t}?", f"{n} has the {t}."),
                (f"What does {n} have?", f"{n} has {article(c)} {t}."),
                (f"What colour is the {t}?", f"The {t} is {c}."),
            )
        )
    else:
        words = distinct(rng, "place" if kind == "go" else "food", count)
        i = rng.randrange(count)
        n, w = names[i], words[i]
        if kind == "go":
            text = " ".join(f"{a} is at the {b}." for a, b in zip(names, words, strict=True))
            question, reply = rng.choice(
                ((f"Where is {n}?", f"{n} is at the {w}."), (f"Who is at the {w}?", f"{n} is at the {w}."))
            )
        else:
            text = " ".join(f"{a} likes {b}." for a, b in zip(names, words, strict=True))
            question, reply = rng.choice(
                ((f"What does {n} like?", f"{n} likes {w}."), (f"Who likes {w}?", f"{n} likes {w}."))
            )
    return Question("people", f"{text} {question}", (reply,), (reply,))


def distinct(rng: Random, kind: str, count: int) -> list[str]:
    """`count` different words of a class."""
    chosen: list[str] = []
    while len(chosen) < count:
        word = draw(rng, kind)
        if word not in chosen:
            chosen.append(word)
    return chosen


def _say(rng: Random) -> Question:
    kind = rng.choice(("thing", "animal", "food", "place", "name", "colour"))
    w, v = distinct(rng, kind, 2)
    options = (
        (f"Say the word {w}.", f"{w}"),
        (f"Repeat after me: {w} and {v}.", f"{w} and {v}"),
        (f"Write {w} three times.", f"{w} {w} {w}"),
        (f"Which word comes first: {w}, {v}?", f"{w}"),
        (f"Which word comes last: {w}, {v}?", f"{v}"),
        (f"Swap the words: {w}, {v}.", f"{v}, {w}"),
    )
    text, reply = rng.choice(options)
    return Question("say", text, (reply,), (reply,))


def json_object(rng: Random) -> dict[str, str | int | list[str]]:
    """A small record of a person."""
    data: dict[str, str | int | list[str]] = {"name": draw(rng, "name"), "age": rng.randint(3, 90)}
    if rng.random() < 0.5:
        data["pet"] = draw(rng, "animal")
    if rng.random() < 0.5:
        data["colour"] = draw(rng, "colour")
    if rng.random() < 0.4:
        data["likes"] = distinct(rng, "food", rng.randint(1, 3))
    return data


def _json(rng: Random) -> Question:
    data = json_object(rng)
    written = json.dumps(data, ensure_ascii=False)
    if rng.random() < 0.5:
        key = rng.choice([k for k in data if k != "likes"])
        return Question("json", f"{written}\nWhat is the {key}?", (f"The {key} is {data[key]}.",), (f"{data[key]}.",))
    told = [f"The {k} is {v}." for k, v in data.items() if not isinstance(v, list)]
    plain = {k: v for k, v in data.items() if not isinstance(v, list)}
    return Question("json", "Write a JSON object. " + " ".join(told), (json.dumps(plain, ensure_ascii=False),))


def reading_question(rng: Random) -> Question:
    """A question about what stands in its own text."""
    return rng.choices((_about_story, _people, _say, _json), (3.0, 5.0, 2.0, 2.0))[0](rng)


def story_request(rng: Random) -> tuple[str, str]:
    """A wish for a story and the story."""
    name = draw(rng, "name")
    story, _ = tell_story(rng, {"n": name})
    wish = rng.choice(
        (
            "Tell me a story about {}.",
            "Please tell me a story about {}.",
            "Write a short story about {}.",
            "I would like a story about {}.",
        )
    )
    if rng.random() < 0.25:
        return rng.choice(("Tell me a story.", "Please tell me a story.", "Write a short story.")), story
    return wish.format(name), story
