"""Word classes of the corpus, in order of frequency; knows no sentence and no document.

The n-th word of a class is drawn with weight n ** -0.5: a smooth slope, so that a cut by top_k, top_p or min_p
falls between tokens of different probability, and yet wide (100 words give about 4.4 nats).
"""

from __future__ import annotations

from itertools import accumulate
from random import Random


def word_list(text: str) -> tuple[str, ...]:
    """The words of a text."""
    return tuple(text.split())


GIRLS = word_list("""
    Mia Lily Anna Emma Ruby Sara Nina Lucy Ella Rose Zoë Maya Clara Alice Ivy Eva Nora Amy Julia Tina Grace Hana
    Leila Olga Kate Lena Mila Vera Daisy Ada Chloé Freya Molly Sofia Tara Wendy Yuki Iris June Hazel Fatima Priya
    Elsa Heidi Ingrid Paula Rita Stella Laura Marta Naomi Petra Bella Cora Dora Edith Flora Gina Helen Jade Karin
    Linda Mabel Nadia Opal Pearl Renée Sally Tess Uma Violet Willa
""")

BOYS = word_list("""
    Tom Ben Max Sam Leo Jack Tim Finn Noah Adam Omar José Oscar Paul Hugo Ivan Luke Mark Nick Otto Peter Ravi Theo
    Umar Viktor Will Yusuf Zach Alex Bruno Carl David Erik Felix George Henry Isaac Jonas Kofi Liam Milo Ned Owen
    Pablo Quinn Ralph Simon Toby Vincent Walter Xavier Albert Boris Cyrus Dylan Emil Frank Gus Harry Igor Jim Kurt
    Louis Mateo Niels Oliver Pedro Rufus Stefan Tariq Ulf Rémi
""")

ANIMALS = word_list("""
    cat dog bird fox bear mouse horse duck rabbit frog cow fish owl pig sheep hen goat wolf lion tiger monkey
    elephant snake turtle bee ant spider whale shark deer hedgehog squirrel goose swan crow eagle parrot penguin
    seal crab snail worm beetle butterfly moth donkey camel zebra giraffe panda koala otter beaver badger mole bat
    rat hamster lizard crocodile dolphin octopus robin sparrow pigeon hawk turkey lamb pony puppy kitten calf
    kangaroo gorilla leopard buffalo wasp ladybird salmon
""")

FOODS = word_list("""
    bread soup cake apples rice cheese honey milk eggs pears plums cookies beans carrots noodles porridge jam
    grapes cherries bananas potatoes salad pancakes nuts pasta butter corn peas tomatoes oranges lemons peaches
    melon berries chocolate pudding toast yogurt onions garlic cabbage spinach mushrooms pumpkin pie stew curry
    dumplings waffles muffins biscuits sausages fish chicken ham turnips radishes leeks olives figs dates mangoes
    coconut ginger pickles crackers popcorn cream sugar
""")

THINGS = word_list("""
    ball kite book hat key box lamp drum boat doll coat map coin bell cup scarf ring basket spoon clock bag pencil
    shoe flute rope umbrella button blanket mirror bottle letter bucket hammer ladder guitar whistle candle pillow
    glove sock brush comb plate bowl jar pot pan fork knife broom shovel rake wheel cart sled train robot puzzle
    balloon feather shell stone marble ribbon necklace crown sword shield mask flag lantern compass camera
    telescope violin trumpet piano bicycle wagon notebook
""")

PLACES = word_list("""
    park river forest market school garden beach hill lake farm village town castle library bridge mill station
    harbour island mountain valley meadow field barn cave pond well tower church shop bakery museum theatre palace
    garage zoo desert jungle swamp canyon waterfall lighthouse windmill orchard vineyard stable playground
    hospital factory square street corner fountain cottage temple café kitchen attic cellar
""")

COLOURS = word_list("red blue green yellow white black brown pink purple orange grey golden silver")

TRAITS = word_list("""
    kind brave little clever happy shy quiet lazy young funny curious gentle polite honest patient cheerful proud
    strong tiny silly calm friendly lonely careful noisy busy smart wise poor rich lucky bold sleepy stubborn
    playful generous dreamy merry nervous serious modest
""")

SIZES = word_list("""
    big small old new tiny huge tall round nice pretty warm cosy narrow wide strange dusty shiny wooden broken
    plain crooked sunny dark lovely quiet
""")

RELATIVES = word_list("mother father sister brother aunt uncle cousin")
JOBS = word_list("""
    baker farmer teacher doctor sailor painter driver cook nurse gardener fisher builder tailor miller clown
    postman shepherd singer dancer pilot writer soldier judge smith potter hunter guard
""")

SAD = word_list("sad unhappy upset gloomy miserable")
HAPPY = word_list("happy glad cheerful delighted joyful")
SCARED = word_list("scared afraid frightened nervous")
ANGRY = word_list("angry cross furious mad")
HUNGRY = word_list("hungry starving")
BORED = word_list("bored restless")
PROUD = word_list("proud pleased")
TIRED = word_list("tired sleepy weary exhausted")

TASTY = word_list("tasty delicious sweet good wonderful yummy great warm fresh lovely")
NOISES = word_list("loud strange soft low sudden scratching buzzing creaking humming rustling knocking squeaking")
ROOMS = word_list("kitchen attic cellar garden hall garage bathroom bedroom barn cupboard")
SPOTS = word_list("""
    table chair bed bench tree bush rock stone bridge log fence wall door stairs cart box carpet shelf sofa basket
    pile window hedge stump
""")
MORNINGS = word_list("morning day evening afternoon")
DAYS = word_list("Monday Tuesday Wednesday Thursday Friday Saturday Sunday")
MONTHS = word_list("January February March April May June July August September October November December")
SEASONS = word_list("spring summer autumn winter")
WEATHER = word_list("rainy cold windy stormy snowy foggy wet grey")
CONTESTS = word_list("race contest match game tournament")
MATERIALS = word_list("paper wood clay cardboard wool sand snow cloth string leaves straw mud")
SPORTS = word_list("""
    football tennis hockey chess golf baseball rugby judo cricket swimming running rowing sailing skiing
""")
CLOTHES = word_list("shirt coat hat dress shoes socks scarf gloves trousers jacket boots belt skirt sweater cap")
TREES = word_list("oak pine birch willow maple elm ash fir palm cedar")
FLOWERS = word_list("rose tulip daisy lily violet poppy iris orchid sunflower daffodil")
VEHICLES = word_list("car bus train plane boat bicycle truck ship tram van taxi tractor scooter helicopter")
BODY = word_list("hand foot head nose eye ear arm leg mouth knee finger toe neck back")
LEGS = word_list("leg paw foot tail wing")
INSTRUMENTS = word_list("piano guitar violin drum flute trumpet harp cello organ banjo")
TOOLS = word_list("hammer saw drill shovel rake axe spade screwdriver pliers wrench")
EMOJI = word_list("🙂 🐢 🎉 🌞 🍎 🐱")

NUMBER_WORDS = word_list("""
    zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen
    seventeen eighteen nineteen twenty
""")

CROPS = word_list("""
    carrots beans peas corn tomatoes onions potatoes cabbage spinach pumpkins melons turnips radishes leeks garlic
    lemons apples pears plums cherries
""")

ACTIONS = word_list("""
    play sing read run swim dance draw paint climb jump sleep walk cook dream fish write sit think work rest laugh
    dig hide build skate talk sail hop
""")

CLASSES: dict[str, tuple[str, ...]] = {
    "girl": GIRLS,
    "boy": BOYS,
    "name": tuple(w for pair in zip(GIRLS, BOYS, strict=True) for w in pair),
    "animal": ANIMALS,
    "food": FOODS,
    "thing": THINGS,
    "place": PLACES,
    "colour": COLOURS,
    "trait": TRAITS,
    "size": SIZES,
    "relative": RELATIVES,
    "job": JOBS,
    "sad": SAD,
    "happy": HAPPY,
    "scared": SCARED,
    "angry": ANGRY,
    "hungry": HUNGRY,
    "bored": BORED,
    "proud": PROUD,
    "tired": TIRED,
    "tasty": TASTY,
    "noise": NOISES,
    "room": ROOMS,
    "spot": SPOTS,
    "morning": MORNINGS,
    "day": DAYS,
    "month": MONTHS,
    "season": SEASONS,
    "weather": WEATHER,
    "contest": CONTESTS,
    "material": MATERIALS,
    "sport": SPORTS,
    "clothes": CLOTHES,
    "tree": TREES,
    "flower": FLOWERS,
    "vehicle": VEHICLES,
    "body": BODY,
    "limb": LEGS,
    "instrument": INSTRUMENTS,
    "tool": TOOLS,
    "action": ACTIONS,
    "count": NUMBER_WORDS[2:],
    "emoji": EMOJI,
    "crop": CROPS,
}
MEMBERS: dict[str, frozenset[str]] = {name: frozenset(words) for name, words in CLASSES.items()}
_CUMULATIVE = {name: list(accumulate((i + 1) ** -0.5 for i in range(len(words)))) for name, words in CLASSES.items()}
_GIRLS = frozenset(GIRLS)


def draw(rng: Random, name: str) -> str:
    """One word of a class, the n-th with weight n ** -0.5. Raises KeyError for an unknown class."""
    return rng.choices(CLASSES[name], cum_weights=_CUMULATIVE[name])[0]


def pick(rng: Random, words: tuple[str, ...]) -> str:
    """One of `words` with the same slope as `draw`; for right answers, which are subsets of classes."""
    return rng.choices(words, weights=[(i + 1) ** -0.5 for i in range(len(words))])[0]


def article(word: str) -> str:
    """The word with "a" or "an" before it."""
    return ("an " if word[0].lower() in "aeio" or word[:3] in ("umb", "ups", "unh") else "a ") + word


def pronoun(name: str, form: str) -> str:
    """The pronoun of a person; form is one of he, him, his (a capital first letter is kept)."""
    if name not in _GIRLS:
        return form
    return {"he": "she", "him": "her", "his": "her", "He": "She", "His": "Her"}[form]


def is_girl(name: str) -> bool:
    """Whether a name belongs to the girls' list."""
    return name in _GIRLS
