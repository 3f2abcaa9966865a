"""What the corpus holds to be true of its words; knows no sentence."""

from __future__ import annotations

from refsample.tiny.words import ANIMALS, CLASSES, word_list


def _table(text: str) -> dict[str, str]:
    """Pairs written "key:value", with "_" for a space."""
    return {key: value for key, _, value in (pair.replace("_", " ").partition(":") for pair in text.split())}


FLYING = word_list(
    "bird duck owl bee goose swan crow eagle parrot bat butterfly moth robin sparrow pigeon hawk wasp ladybird"
)
SWIMMING = word_list("fish duck frog whale shark seal crab dolphin octopus salmon otter penguin crocodile turtle swan")
FARM = word_list("horse duck cow pig sheep hen goat donkey goose turkey lamb pony calf")
PETS = word_list("cat dog rabbit hamster puppy kitten parrot pony")
SIX_LEGS = word_list("ant bee beetle butterfly moth wasp ladybird")
TWO_LEGS = word_list("bird duck owl hen goose swan crow eagle parrot penguin robin sparrow pigeon hawk turkey")
NO_LEGS = word_list("fish snake whale shark worm snail dolphin salmon")
BIG = word_list("horse bear cow elephant lion tiger whale shark camel zebra giraffe crocodile buffalo gorilla leopard")
SMALL = word_list("mouse ant bee spider frog snail worm beetle moth wasp ladybird butterfly")
_OTHER_LEGS = {
    *SIX_LEGS,
    *TWO_LEGS,
    *NO_LEGS,
    "spider",
    "crab",
    "octopus",
    "bat",
    "kangaroo",
    "gorilla",
    "monkey",
    "seal",
}
FOUR_LEGS = tuple(a for a in ANIMALS if a not in _OTHER_LEGS)
LEGS = {
    **dict.fromkeys(FOUR_LEGS, "four"),
    **dict.fromkeys(SIX_LEGS, "six"),
    **dict.fromkeys(TWO_LEGS, "two"),
    **dict.fromkeys(NO_LEGS, "no"),
    "spider": "eight",
}

FRUIT = word_list("apples pears plums grapes cherries bananas oranges lemons peaches melon berries figs dates mangoes")
VEGETABLES = word_list("beans carrots potatoes corn peas onions cabbage spinach pumpkin turnips radishes leeks")
SWEET = word_list("cake honey cookies jam pancakes chocolate pudding waffles muffins biscuits sugar popcorn")
ROUND = word_list("ball coin ring wheel drum balloon marble button plate")
KITCHEN = word_list("cup spoon bottle plate bowl jar pot pan fork knife")
WATER = word_list("river beach lake pond harbour island waterfall swamp")
CHILDREN_PLAY = word_list("ball kite doll train robot puzzle balloon marble sled boat")

GROUPS: dict[str, tuple[str, ...]] = {
    "an animal that can fly": FLYING,
    "an animal that can swim": SWIMMING,
    "an animal from a farm": FARM,
    "a pet": PETS,
    "an animal with six legs": SIX_LEGS,
    "an animal with two legs": TWO_LEGS,
    "an animal with no legs": NO_LEGS,
    "an animal with four legs": FOUR_LEGS,
    "a big animal": BIG,
    "a small animal": SMALL,
    "a round thing": ROUND,
    "a thing from the kitchen": KITCHEN,
    "a place with water": WATER,
    "a toy": CHILDREN_PLAY,
    "an animal": CLASSES["animal"],
    "a thing": CLASSES["thing"],
    "a place": CLASSES["place"],
    "a job": CLASSES["job"],
    "a sport": CLASSES["sport"],
    "a tree": CLASSES["tree"],
    "a flower": CLASSES["flower"],
    "a vehicle": CLASSES["vehicle"],
    "an instrument": CLASSES["instrument"],
    "a tool": CLASSES["tool"],
    "a part of the body": CLASSES["body"],
    "a colour": CLASSES["colour"],
    "a food": CLASSES["food"],
    "a fruit": FRUIT,
    "a vegetable": VEGETABLES,
    "something sweet": SWEET,
    "something to wear": CLASSES["clothes"],
    "a day of the week": CLASSES["day"],
    "a month": CLASSES["month"],
    "a season": CLASSES["season"],
    "a name": CLASSES["name"],
    "a name for a girl": CLASSES["girl"],
    "a name for a boy": CLASSES["boy"],
    "a word for a feeling": tuple(
        w for k in ("happy", "sad", "angry", "scared", "tired", "proud") for w in CLASSES[k][:3]
    ),
    "something to do": CLASSES["action"],
}
SOUNDS = _table(
    "dog:barks cat:meows cow:moos sheep:bleats pig:grunts duck:quacks lion:roars wolf:howls frog:croaks "
    "bee:buzzes snake:hisses horse:neighs owl:hoots mouse:squeaks hen:clucks crow:caws bird:sings"
)
BABIES = _table(
    "dog:puppy cat:kitten cow:calf sheep:lamb horse:foal duck:duckling pig:piglet goose:gosling lion:cub "
    "hen:chick goat:kid frog:tadpole deer:fawn"
)
HOMES = _table(
    "bee:hive bird:nest fish:pond cow:barn spider:web dog:kennel pig:sty horse:stable rabbit:burrow "
    "bear:den camel:desert monkey:jungle"
)
OPPOSITES = _table(
    "hot:cold big:small old:new day:night up:down left:right fast:slow happy:sad open:closed full:empty "
    "wet:dry light:dark high:low hard:soft long:short rich:poor early:late near:far loud:quiet good:bad "
    "clean:dirty first:last strong:weak thick:thin true:false yes:no young:old"
)
HUES = _table(
    "grass:green snow:white coal:black the_sky:blue milk:white the_sun:yellow a_banana:yellow a_carrot:orange "
    "a_lemon:yellow a_tomato:red a_cherry:red a_frog:green an_elephant:grey a_swan:white a_crow:black chocolate:brown"
)
MIXES = _table(
    "blue_and_yellow:green yellow_and_blue:green red_and_yellow:orange yellow_and_red:orange red_and_blue:purple "
    "blue_and_red:purple red_and_white:pink white_and_red:pink black_and_white:grey white_and_black:grey"
)
TASKS = _table(
    "cut_paper:pair_of_scissors write_a_letter:pencil open_a_door:key sweep_the_floor:broom hit_a_nail:hammer "
    "tell_the_time:clock dry_your_hands:towel brush_your_teeth:toothbrush stay_dry_in_the_rain:umbrella "
    "cut_bread:knife eat_soup:spoon take_a_picture:camera look_at_the_stars:telescope dig_a_hole:shovel "
    "find_the_way:compass carry_water:bucket"
)
WORK = _table(
    "baker:bakes_bread farmer:works_on_a_farm teacher:teaches_children doctor:helps_sick_people "
    "sailor:sails_a_ship painter:paints_pictures driver:drives_a_car cook:cooks_food gardener:grows_flowers "
    "fisher:catches_fish builder:builds_houses tailor:makes_clothes singer:sings_songs pilot:flies_a_plane "
    "postman:brings_letters potter:makes_pots writer:writes_books shepherd:looks_after_sheep"
)
PLURALS = _table(
    "mouse:mice foot:feet child:children tooth:teeth goose:geese man:men woman:women wolf:wolves "
    "knife:knives leaf:leaves sheep:sheep box:boxes baby:babies city:cities"
)
PAST = _table(
    "go:went eat:ate see:saw run:ran sing:sang give:gave take:took find:found come:came make:made write:wrote "
    "sleep:slept swim:swam drink:drank fly:flew buy:bought think:thought"
)
CAPITALS = _table(
    "France:Paris Italy:Rome Spain:Madrid Germany:Berlin Japan:Tokyo Egypt:Cairo Norway:Oslo Greece:Athens "
    "Portugal:Lisbon Austria:Vienna Poland:Warsaw Ireland:Dublin Peru:Lima Cuba:Havana China:Beijing"
)
FIGURES = _table(
    "days_in_a_week:seven months_in_a_year:twelve hours_in_a_day:twenty-four seasons_in_a_year:four "
    "fingers_on_one_hand:five wheels_on_a_bicycle:two wheels_on_a_car:four sides_on_a_square:four "
    "sides_on_a_triangle:three minutes_in_an_hour:sixty eyes_on_a_face:two days_in_a_weekend:two legs_on_a_chair:four "
    "letters_in_the_alphabet:twenty-six"
)
_ROUNDS = (CLASSES["day"], CLASSES["month"], CLASSES["season"])
AFTER = {word: words[(i + 1) % len(words)] for words in _ROUNDS for i, word in enumerate(words)}
BEFORE = {later: earlier for earlier, later in AFTER.items()}
