"""What the corpus holds to be true of its words; knows no sentence."""

from __future__ import annotations

from refsample.tiny.words import ANIMALS, CLASSES


def _table(text: str) -> dict[str, str]:
    """Pairs written "key:value", values with "_" for a space."""
    return {key: value.replace("_", " ") for key, value in (pair.split(":") for pair in text.split())}


FLYING = tuple("bird duck owl bee goose swan crow eagle parrot bat butterfly moth robin sparrow pigeon hawk wasp "
               "ladybird".split())
SWIMMING = tuple("fish duck frog whale shark seal crab dolphin octopus salmon otter penguin crocodile turtle swan".split())
FARM = tuple("horse duck cow pig sheep hen goat donkey goose turkey lamb pony calf".split())
PETS = tuple("cat dog rabbit hamster puppy kitten parrot pony".split())
SIX_LEGS = tuple("ant bee beetle butterfly moth wasp ladybird".split())
TWO_LEGS = tuple("bird duck owl hen goose swan crow eagle parrot penguin robin sparrow pigeon hawk turkey".split())
NO_LEGS = tuple("fish snake whale shark worm snail dolphin salmon".split())
BIG = tuple("horse bear cow elephant lion tiger whale shark camel zebra giraffe crocodile buffalo gorilla leopard".split())
SMALL = tuple("mouse ant bee spider frog snail worm beetle moth wasp ladybird butterfly".split())
_OTHER_LEGS = {*SIX_LEGS, *TWO_LEGS, *NO_LEGS, "spider", "crab", "octopus", "bat", "kangaroo", "gorilla", "monkey",
               "seal"}
FOUR_LEGS = tuple(a for a in ANIMALS if a not in _OTHER_LEGS)
LEGS = {**dict.fromkeys(FOUR_LEGS, "four"), **dict.fromkeys(SIX_LEGS, "six"), **dict.fromkeys(TWO_LEGS, "two"),
        **dict.fromkeys(NO_LEGS, "no"), "spider": "eight"}

FRUIT = tuple("apples pears plums grapes cherries bananas oranges lemons peaches melon berries figs dates mangoes".split())
VEGETABLES = tuple("beans carrots potatoes corn peas onions cabbage spinach pumpkin turnips radishes leeks".split())
SWEET = tuple("cake honey cookies jam pancakes chocolate pudding waffles muffins biscuits sugar popcorn".split())
ROUND = tuple("ball coin ring wheel drum balloon marble button plate".split())
KITCHEN = tuple("cup spoon bottle plate bowl jar pot pan fork knife".split())
WATER = tuple("river beach lake pond harbour island waterfall swamp".split())
CHILDREN_PLAY = tuple("ball kite doll train robot puzzle balloon marble sled boat".split())

GROUPS: dict[str, tuple[str, ...]] = {
    "an animal that can fly": FLYING, "an animal that can swim": SWIMMING, "an animal from a farm": FARM,
    "a pet": PETS, "an animal with six legs": SIX_LEGS, "an animal with two legs": TWO_LEGS,
    "an animal with no legs": NO_LEGS, "an animal with four legs": FOUR_LEGS, "a big animal": BIG,
    "a small animal": SMALL, "a round thing": ROUND, "a thing from the kitchen": KITCHEN,
    "a place with water": WATER, "a toy": CHILDREN_PLAY, "an animal": CLASSES["animal"], "a thing": CLASSES["thing"],
    "a place": CLASSES["place"], "a job": CLASSES["job"], "a sport": CLASSES["sport"], "a tree": CLASSES["tree"],
    "a flower": CLASSES["flower"], "a vehicle": CLASSES["vehicle"], "an instrument": CLASSES["instrument"],
    "a tool": CLASSES["tool"], "a part of the body": CLASSES["body"], "a colour": CLASSES["colour"],
    "a food": CLASSES["food"], "a fruit": FRUIT, "a vegetable": VEGETABLES, "something sweet": SWEET,
    "something to wear": CLASSES["clothes"], "a day of the week": CLASSES["day"], "a month": CLASSES["month"],
    "a season": CLASSES["season"], "a name": CLASSES["name"], "a name for a girl": CLASSES["girl"],
    "a name for a boy": CLASSES["boy"], "a word for a feeling": tuple(
        w for k in ("happy", "sad", "angry", "scared", "tired", "proud") for w in CLASSES[k][:3]),
    "something to do": CLASSES["action"],
}
SOUNDS = _table("dog:barks cat:meows cow:moos sheep:bleats pig:grunts duck:quacks lion:roars wolf:howls frog:croaks "
                "bee:buzzes snake:hisses horse:neighs owl:hoots mouse:squeaks hen:clucks crow:caws bird:sings")
BABIES = _table("dog:puppy cat:kitten cow:calf sheep:lamb horse:foal duck:duckling pig:piglet goose:gosling lion:cub "
                "hen:chick goat:kid frog:tadpole deer:fawn")
HOMES = _table("bee:hive bird:nest fish:water cow:barn spider:web dog:kennel pig:sty horse:stable rabbit:burrow "
               "bear:den camel:desert monkey:jungle king:palace sailor:ship")
OPPOSITES = _table("hot:cold big:small old:new day:night up:down left:right fast:slow happy:sad open:closed full:empty "
                   "wet:dry light:dark high:low hard:soft long:short rich:poor early:late near:far loud:quiet good:bad "
                   "clean:dirty first:last strong:weak thick:thin true:false yes:no young:old")
HUES = {"grass": "green", "snow": "white", "coal": "black", "the sky": "blue", "milk": "white", "the sun": "yellow",
        "a banana": "yellow", "a carrot": "orange", "a lemon": "yellow", "a tomato": "red", "a cherry": "red",
        "a frog": "green", "an elephant": "grey", "a swan": "white", "a crow": "black", "chocolate": "brown"}
MIXES = {("blue", "yellow"): "green", ("red", "yellow"): "orange", ("red", "blue"): "purple",
         ("red", "white"): "pink", ("black", "white"): "grey"}
TASKS = {
    "cut paper": "scissors", "write a letter": "pencil", "open a door": "key", "sweep the floor": "broom",
    "hit a nail": "hammer", "tell the time": "clock", "dry your hands": "towel", "brush your teeth": "toothbrush",
    "stay dry in the rain": "umbrella", "cut bread": "knife", "eat soup": "spoon", "take a picture": "camera",
    "look at the stars": "telescope", "dig a hole": "shovel", "find the way": "compass", "carry water": "bucket",
}
WORK = _table("baker:bakes_bread farmer:works_on_a_farm teacher:teaches_children doctor:helps_sick_people "
              "sailor:sails_a_ship painter:paints_pictures driver:drives_a_car cook:cooks_food gardener:grows_flowers "
              "fisher:catches_fish builder:builds_houses tailor:makes_clothes singer:sings_songs pilot:flies_a_plane "
              "postman:brings_letters potter:makes_pots writer:writes_books shepherd:looks_after_sheep")
PLURALS = _table("mouse:mice foot:feet child:children tooth:teeth goose:geese man:men woman:women wolf:wolves "
                 "knife:knives leaf:leaves sheep:sheep box:boxes baby:babies city:cities")
PAST = _table("go:went eat:ate see:saw run:ran sing:sang give:gave take:took find:found come:came make:made write:wrote "
              "sleep:slept swim:swam drink:drank fly:flew buy:bought think:thought")
CAPITALS = _table("France:Paris Italy:Rome Spain:Madrid Germany:Berlin Japan:Tokyo Egypt:Cairo Norway:Oslo Greece:Athens "
                  "Portugal:Lisbon Austria:Vienna Poland:Warsaw Ireland:Dublin Peru:Lima Cuba:Havana China:Beijing")
FIGURES = {"days in a week": "seven", "months in a year": "twelve", "hours in a day": "twenty-four",
           "seasons in a year": "four", "fingers on one hand": "five", "wheels on a bicycle": "two",
           "wheels on a car": "four", "sides on a square": "four", "sides on a triangle": "three",
           "minutes in an hour": "sixty", "eyes on a face": "two", "noses on a face": "one", "days in a weekend": "two",
           "legs on a chair": "four", "letters in the alphabet": "twenty-six"}
