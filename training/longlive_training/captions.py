"""Sentences that describe a scene of the toy world, from synonyms and sentence patterns.

The words are the same for both splits; the patterns of the "test" split never occur in training.
"""

import numpy as np

SUBJECTS = {
    "fox": ["fox", "fox", "little fox", "small fox", "young fox", "vixen"],
    "rabbit": ["rabbit", "rabbit", "bunny", "hare", "little rabbit"],
    "bird": ["bird", "bird", "little bird", "songbird", "small bird"],
    "robot": ["robot", "robot", "android", "little robot", "bot"],
    "car": ["car", "car", "automobile", "small car", "toy car"],
    "dinosaur": ["dinosaur", "dinosaur", "dino", "long-necked dinosaur", "baby dinosaur"],
}
COLOURS = {
    "red": ["red", "red", "red", "bright red", "crimson", "scarlet"],
    "blue": ["blue", "blue", "blue", "bright blue", "azure", "cobalt"],
    "green": ["green", "green", "green", "bright green", "emerald"],
    "yellow": ["yellow", "yellow", "yellow", "bright yellow", "golden"],
    "purple": ["purple", "purple", "purple", "violet"],
    "white": ["white", "white", "white", "pure white", "pale white"],
}
# (third person, participle); the car drives
ACTIONS = {
    "stand": [("stands", "standing"), ("stands still", "standing still"), ("waits", "waiting"), ("rests", "resting")],
    "walk": [("walks", "walking"), ("walks", "walking"), ("strolls", "strolling"), ("wanders", "wandering"), ("moves slowly", "moving slowly")],
    "run": [("runs", "running"), ("runs", "running"), ("sprints", "sprinting"), ("races", "racing"), ("dashes", "dashing"), ("runs fast", "running fast")],
    "jump": [("jumps", "jumping"), ("jumps", "jumping"), ("hops", "hopping"), ("leaps", "leaping"), ("bounces", "bouncing")],
}
CAR_ACTIONS = {
    "stand": [("is parked", "parked"), ("stands still", "standing still"), ("waits", "waiting")],
    "walk": [("drives slowly", "driving slowly"), ("rolls along", "rolling along"), ("cruises", "cruising")],
    "run": [("drives fast", "driving fast"), ("races", "racing"), ("speeds", "speeding")],
    "jump": [("jumps", "jumping"), ("bounces", "bouncing"), ("hops", "hopping")],
}
GROUNDS = {
    "grass": ["on grass", "on the grass", "over grass", "across a meadow", "in a grassy field", "through a green meadow", "in a park"],
    "sand": ["on sand", "on the sand", "over sand", "across the desert", "on a sandy beach", "through sand dunes", "on a beach"],
    "snow": ["on snow", "on the snow", "across a snowy field", "over snow", "on snow-covered ground", "in a snowy forest", "through the snow"],
    "water": ["on water", "on the water", "over the water", "across a lake", "on the sea", "over the ocean", "across the water"],
    "road": ["on a road", "on the road", "along a road", "down a city street", "on asphalt", "along a street in the city", "on the street"],
}
SKIES = {
    "day": ["by day", "during the day", "in daylight", "on a bright day", "at noon", "at midday", "in the daytime"],
    "sunset": ["at sunset", "at sunset", "at dusk", "in the evening", "as the sun sets", "in the evening glow"],
    "night": ["at night", "at night", "by night", "in the moonlight", "under the stars", "at midnight", "in the dark"],
    "dawn": ["at dawn", "at dawn", "at sunrise", "in the early morning", "at daybreak", "as the sun rises"],
}
WEATHERS = {
    "clear": ["", "", "", "in clear weather", "under a clear sky", "in dry weather"],
    "rain": ["in the rain", "in the rain", "while it rains", "in rainy weather", "as rain falls", "in heavy rain"],
    "snow": ["while it snows", "in falling snow", "in a snowfall", "as snowflakes fall", "in snowy weather", "during a snowstorm"],
}

# s: subject with colour, v: verb, p: participle, g: ground, k: sky, w: weather
TRAIN = [
    "{s} {v} {g} {k} {w}",
    "{s} {v} {g} {k} {w}",
    "{s} {p} {g} {k} {w}",
    "{s} {v} {g} {w} {k}",
    "{s} is {p} {g}, {k}, {w}",
    "{k}, {s} {v} {g} {w}",
    "{k} {w}, {s} {v} {g}",
    "{s}, {p} {g}, {k} {w}",
    "{g} {s} {v} {k} {w}",
    "a video of {s} {p} {g} {k} {w}",
    "a scene {k} {w}: {s} {v} {g}",
    "we see {s} {p} {g} {k} {w}",
]
TEST = [
    "{s} that {v} {g} {w}, {k}",
    "{w} {k}, there is {s} {p} {g}",
    "watch {s} as it {v} {g} {k} {w}",
    "{p} {g} {k}: {s} {w}",
]


def caption(attributes: dict[str, str], rng: np.random.Generator, full: bool = True, split: str = "train") -> str:
    """One sentence. `full` mentions every attribute (dry weather sometimes by silence); otherwise only the subject is
    certain, and every other attribute is left out with probability 0.4."""

    def pick(options):
        return options[rng.integers(len(options))]

    def keep() -> bool:
        return full or rng.random() < 0.6

    actions = CAR_ACTIONS if attributes["subject"] == "car" else ACTIONS
    verb, participle = pick(actions[attributes["action"]]) if keep() else ("appears", "seen")
    noun = pick(SUBJECTS[attributes["subject"]])
    phrase = f"{pick(COLOURS[attributes['colour']])} {noun}" if keep() else noun
    article = pick(["a", "a", "a", "the", "one"])
    parts = {
        "s": f"{'an' if article == 'a' and phrase[0] in 'aeiou' else article} {phrase}",
        "v": verb,
        "p": participle,
        "g": pick(GROUNDS[attributes["ground"]]) if keep() else "",
        "k": pick(SKIES[attributes["sky"]]) if keep() else "",
        "w": pick(WEATHERS[attributes["weather"]]) if keep() else "",
    }
    text = " ".join(pick(TRAIN if split == "train" else TEST).format(**parts).split())
    for stray, tidy in ((" ,", ","), (",,", ","), (" :", ":"), (",:", ":")):
        text = text.replace(stray, tidy)
    text = text.strip(" ,:")
    style = rng.random()
    if style < 0.4:
        text = text[0].upper() + text[1:]
    return text + "." if style > 0.8 or style < 0.25 else text
