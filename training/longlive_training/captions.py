"""Sentences that describe a scene of the toy world: synonyms, any order of the parts, words that mean nothing here.

The words for what the world knows are the same for both splits; the sentence patterns, the extra adjectives and the
openings of the "test" split never occur in training.
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

# Said in front, about the subject, and behind; nothing of it can be seen in the world.
OPENINGS = {
    "train": ["a video of", "a film of", "a scene with", "we see", "a clip of", "an animation of", "a cartoon of", "imagine", "a shot of", "show me"],
    "test": ["watch", "footage of", "a picture-book view of", "please draw"],
}
ADJECTIVES = {
    "train": ["cute", "happy", "lovely", "cheerful", "brave", "curious", "shiny", "tiny", "big", "friendly", "funny", "old", "lonely", "strong", "clever", "soft"],
    "test": ["adorable", "proud", "quiet", "enormous", "sleepy", "elegant"],
}
ENDINGS = {
    "train": ["in high detail", "cinematic", "highly detailed", "beautiful colours", "wide shot", "smooth motion", "with hills behind", "4k", "seen from the side",
              "peaceful mood", "masterpiece", "the camera follows"],
    "test": ["award-winning", "side view", "in the style of a storybook", "very pretty"],
}  # fmt: skip

# Of no attribute: articles ("a" becomes "an"), and the verb of a scene without an action.
SAID = {"articles": ["a", "a", "a", "the", "one"], "an": "an", "nothing": ("appears", "seen")}

WORDY = 0.12  # share of the sentences for training that say a lot more of such things, as people do

# s: subject with colour, v: verb, p: participle, a, b, c: ground, sky and weather in any order
PATTERNS = {
    "train": [
        "{s} {v} {a} {b} {c}",
        "{s} {v} {a}, {b}, {c}",
        "{s} {p} {a} {b} {c}",
        "{s} {p} {a}, {b}, {c}",
        "{s} is {p} {a} {b} {c}",
        "{a}, {s} {v} {b} {c}",
        "{a} {b}, {s} {v} {c}",
        "{a}, {b}, {c}: {s} {p}",
        "{a}, {b}, {c}, {s} {v}",
        "{a} {s} {v} {b} {c}",
        "{s}, {p} {a}, {b} {c}",
        "{p} {a} {b}, {s} {c}",
        "{s} {a}. it {v} {b} {c}",
        "{s} {a} {b} {c}. it is {p}",
    ],
    "test": [
        "{s} that {v} {a} {b}, {c}",
        "{a} {b}, there is {s} {p} {c}",
        "{s} as it {v} {a} {b} {c}",
        "{p} {a} {b}: {s} {c}",
        "{s} - {p}, {a}, {b}, {c}",
    ],
}


def caption(attributes: dict[str, str], rng: np.random.Generator, full: bool = True, split: str = "train") -> str:
    """One sentence. `full` mentions every attribute (dry weather sometimes by silence); otherwise only the subject is
    certain, and every other attribute is left out with probability 0.4."""

    def pick(options):
        return options[rng.integers(len(options))]

    def chance(probability: float) -> bool:
        return rng.random() < probability

    def keep() -> bool:
        return full or chance(0.6)

    actions = CAR_ACTIONS if attributes["subject"] == "car" else ACTIONS
    verb, participle = pick(actions[attributes["action"]]) if keep() else SAID["nothing"]
    words = [pick(COLOURS[attributes["colour"]])] if keep() else []
    if chance(0.25):
        words.insert(rng.integers(len(words) + 1), pick(ADJECTIVES[split]))
    phrase = " ".join([*words, pick(SUBJECTS[attributes["subject"]])])
    article = pick(SAID["articles"])
    places = [pick(table[attributes[name]]) if keep() else "" for name, table in (("ground", GROUNDS), ("sky", SKIES), ("weather", WEATHERS))]
    a, b, c = rng.permutation(places)
    text = pick(PATTERNS[split]).format(s=f"{SAID['an'] if article == 'a' and phrase[0] in 'aeiou' else article} {phrase}", v=verb, p=participle, a=a, b=b, c=c)
    if chance(0.2):
        text = f"{pick(OPENINGS[split])} {text}"
    if chance(0.2):
        text = f"{text}, {pick(ENDINGS[split])}"
    if split == "train" and chance(WORDY):
        aside = ", ".join(pick(ENDINGS[split]) for _ in range(rng.integers(2, 9)))
        text = f"{aside}: {text}" if chance(0.5) else f"{text}, {aside}"
    text = " ".join(text.split())
    for stray, tidy in ((" ,", ","), (",,", ","), (" :", ":"), (",:", ":"), (" .", "."), (",.", "."), (",,", ",")):
        text = text.replace(stray, tidy)
    text = text.strip(" ,:-")
    if chance(0.4):
        text = text[0].upper() + text[1:]
    return text + "." if chance(0.35) and text[-1] != "." else text
