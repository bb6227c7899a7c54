"""The 150 classes of ADE20K and the colours in which segmentation ControlNets were shown them.

Names, synonyms and colours are facts of the MIT Scene Parsing Benchmark (Zhou et al., CVPR 2017; its tables
`objectInfo150` and `color150`). Road and skyscraper share one colour there, and so they do here. Synonyms that name
something else in a synthetic dataset more often than not (a can for a toilet, a wheel for a bicycle) are left out.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from types import MappingProxyType

RGB = tuple[int, int, int]

_TABLE = """
wall | 120 120 120
building | 180 120 120 | edifice
sky | 6 230 230
floor | 80 50 50 | flooring
tree | 4 200 3
ceiling | 120 120 80
road | 140 140 140 | route
bed | 204 5 255
windowpane | 230 230 230 | window
grass | 4 250 7
cabinet | 224 5 255
sidewalk | 235 255 7 | pavement
person | 150 5 61 | individual, someone, somebody, mortal, soul
earth | 120 120 70
door | 8 255 51 | double door
table | 255 6 82
mountain | 143 255 140 | mount
plant | 204 255 4
curtain | 255 51 7 | drape, drapery
chair | 204 70 3
car | 0 102 200 | auto, automobile, motorcar
water | 61 230 250
painting | 255 6 51 | picture
sofa | 11 102 255 | couch, lounge
shelf | 255 7 71
house | 255 9 224
sea | 9 7 230
mirror | 220 220 220
rug | 255 9 92 | carpet, carpeting
field | 112 9 255
armchair | 8 255 214
seat | 7 255 224
fence | 255 184 6 | fencing
desk | 10 255 71
rock | 255 41 10 | stone
wardrobe | 7 255 255 | closet
lamp | 224 255 8
bathtub | 102 8 255 | bathing tub, bath, tub
railing | 255 61 6 | rail
cushion | 255 194 7
base | 255 122 8 | pedestal
box | 0 255 20
column | 255 8 41 | pillar
signboard | 255 5 153 | sign
chest of drawers | 6 51 255 | chest, bureau, dresser
counter | 235 12 255
sand | 160 150 20
sink | 0 163 255
skyscraper | 140 140 140
fireplace | 250 10 15 | hearth, open fireplace
refrigerator | 20 255 0 | icebox
grandstand | 31 255 0 | covered stand
path | 255 31 0
stairs | 255 224 0 | steps
runway | 153 255 0
case | 0 0 255 | display case, showcase, vitrine
pool table | 255 71 0 | billiard table, snooker table
pillow | 0 235 255
screen door | 0 173 255
stairway | 31 0 255 | staircase
river | 11 200 200
bridge | 255 82 0 | span
bookcase | 0 255 245
blind | 0 61 255
coffee table | 0 255 112 | cocktail table
toilet | 0 255 133 | commode, crapper, potty, throne
flower | 255 0 0
book | 255 163 0
hill | 255 102 0
bench | 194 255 0
countertop | 0 143 255
stove | 51 255 0 | kitchen stove, range, kitchen range, cooking stove
palm | 0 82 255 | palm tree
kitchen island | 0 255 41
computer | 0 255 173 | computing machine, computing device, data processor, electronic computer
swivel chair | 10 0 255
boat | 173 255 0
bar | 0 255 153
arcade machine | 255 92 0
hovel | 255 0 255 | hut, hutch, shack, shanty
bus | 255 0 245 | autobus, coach, charabanc, double-decker, jitney, motorbus, motorcoach, omnibus, passenger vehicle
towel | 255 0 102
light | 255 173 0 | light source
truck | 255 0 20 | motortruck
tower | 255 184 184
chandelier | 0 31 255 | pendant, pendent
awning | 0 255 61 | sunshade, sunblind
streetlight | 0 71 255 | street lamp
booth | 255 0 204 | cubicle, kiosk
television | 0 255 194 | television receiver, television set, tv, tv set, idiot box, boob tube, telly, goggle box
airplane | 0 255 82 | aeroplane, plane
dirt track | 0 10 255
apparel | 0 112 255 | wearing apparel, dress, clothes
pole | 51 0 255
land | 0 194 255 | soil
bannister | 0 122 255 | banister, balustrade, balusters, handrail
escalator | 0 255 163 | moving staircase, moving stairway
ottoman | 255 153 0 | pouf, pouffe, hassock
bottle | 0 255 10
buffet | 255 112 0 | sideboard
poster | 143 255 0 | posting, placard, notice
stage | 82 0 255
van | 163 255 0
ship | 255 235 0
fountain | 8 184 170
conveyer belt | 133 0 255 | conveyor belt, conveyer, conveyor, transporter
canopy | 0 255 92
washer | 184 0 255 | automatic washer, washing machine
plaything | 255 0 31 | toy
swimming pool | 0 184 255 | swimming bath, natatorium
stool | 0 214 255
barrel | 255 0 112 | cask
basket | 92 255 0 | handbasket
waterfall | 0 224 255 | falls
tent | 112 224 255 | collapsible shelter
bag | 70 184 160
minibike | 163 0 255 | motorbike
cradle | 153 0 255
oven | 71 255 0
ball | 255 0 163
food | 255 204 0 | solid food
step | 255 0 143 | stair
tank | 0 255 235 | storage tank
trade name | 133 255 0 | brand name, brand, marque
microwave | 255 0 235 | microwave oven
pot | 245 0 255 | flowerpot
animal | 255 0 122 | animate being, beast, brute, creature, fauna
bicycle | 255 245 0 | bike, cycle
lake | 10 190 212
dishwasher | 214 255 0 | dish washer, dishwashing machine
screen | 0 204 255 | silver screen, projection screen
blanket | 20 0 255
sculpture | 255 255 0
hood | 0 153 255 | exhaust hood
sconce | 0 41 255
vase | 0 255 204
traffic light | 41 0 255 | traffic signal, stoplight
tray | 41 255 0
ashcan | 173 0 255 | trash can, garbage can, wastebin, ash bin, ash-bin, ashbin, dustbin, trash barrel, trash bin
fan | 0 245 255
pier | 71 0 255 | wharf, wharfage, dock
crt screen | 122 0 255
plate | 0 255 184
monitor | 0 92 255 | monitoring device
bulletin board | 184 255 0 | notice board
shower | 0 133 255
radiator | 255 214 0
glass | 25 194 194
clock | 102 255 0
flag | 92 0 255
"""

_FROM_DATASETS = {
    "person": "pedestrian, people, human, man, woman, child, rider, cyclist, driver, bicyclist, motorcyclist, worker",
    "car": "vehicle, passenger car, sedan, suv, hatchback, taxi, police car",
    "truck": "lorry, pickup, pickup truck",
    "minibike": "motorcycle, motor bike, motobike, moped, scooter",
    "signboard": "traffic sign, road sign, street sign, stop sign, speed limit sign",
    "traffic light": "traffic lights",
    "streetlight": "street light, lamp post, lamppost",
    "tree": "vegetation, trees, foliage",
    "plant": "bush, shrub, hedge, potted plant",
    "earth": "ground, terrain, dirt",
    "road": "roads, street, asphalt, lane marking, road line, roadline, road marking, crosswalk, parking",
    "railing": "guardrail, guard rail",
    "sidewalk": "footpath, walkway",
    "building": "buildings",
    "table": "dining table, tabletop",
    "animal": "dog, cat, horse, sheep, cow, bird, elephant, bear, zebra, giraffe, deer",
    "bag": "backpack, handbag, suitcase, rucksack",
    "computer": "laptop, pc",
    "monitor": "display, tvmonitor, tv monitor",
    "ashcan": "trash, bin, rubbish bin, waste container",
    "box": "carton, crate, parcel, cardboard box",
    "food": "fruit, vegetable, banana, apple, sandwich, orange, broccoli, carrot, pizza, donut, cake",
    "ball": "sports ball, football, basketball",
    "ship": "vessel",
    "refrigerator": "fridge",
    "airplane": "aircraft",
}


def _plain(word: str) -> str:
    """`TrafficLight`, `traffic-light` and `traffic_light` as `traffic light`."""
    apart = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", word)
    return " ".join(re.split(r"[\s_\-.]+", apart.strip())).lower()


def _read() -> tuple[dict[str, RGB], dict[str, str]]:
    colours: dict[str, RGB] = {}
    words: dict[str, str] = {}
    for line in _TABLE.strip().splitlines():
        name, colour, *synonyms = line.split(" | ")
        red, green, blue = (int(v) for v in colour.split())
        colours[name] = (red, green, blue)
        words.update(dict.fromkeys((w for row in synonyms for w in row.split(", ")), name))
    for name, row in _FROM_DATASETS.items():
        words.update(dict.fromkeys(row.split(", "), name))
    return colours, {_plain(w): n for w, n in {**words, **{name: name for name in colours}}.items()}


_colours, _words = _read()
COLOURS: Mapping[str, RGB] = MappingProxyType(_colours)
"""Colour by class name, in the benchmark's order."""
WORDS: Mapping[str, str] = MappingProxyType(_words)
"""Class name by every word that is understood, class names included."""


def find(word: str) -> str | None:
    """The ADE20K class that a dataset's class name means, or None.

    Case, hyphens, underscores, camel case and a plural `s` do not matter. Nothing is guessed beyond that: a colour
    of the wrong class asks a model for the wrong thing.
    """
    plain = _plain(word)
    for form in (plain, plain.replace(" ", ""), plain.removesuffix("s"), plain.removesuffix("es")):
        if form in WORDS:
            return WORDS[form]
    return None


def suggest(word: str) -> tuple[str, ...]:
    """Up to three class names whose words look most like `word`: for messages, never used on their own."""
    close = difflib.get_close_matches(_plain(word), WORDS, n=6, cutoff=0.5)
    return tuple(dict.fromkeys(WORDS[w] for w in close))[:3]
