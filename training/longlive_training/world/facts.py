"""What there is in the world, and the numbers that it is drawn by."""

import numpy as np

FPS = 16
TRANSITION = 12  # frames that a change of attributes takes
CYCLE = 12  # frames of one gait cycle and of one turn of the weather
STAGE = (192, 112)  # units
SKYWARD = 32  # units above the stage that the highest view shows

ATTRIBUTES: dict[str, list[str]] = {
    "subject": ["fox", "rabbit", "bird", "robot", "car", "dinosaur"],
    "colour": ["red", "blue", "green", "yellow", "purple", "white"],
    "action": ["stand", "walk", "run", "jump"],
    "ground": ["grass", "sand", "snow", "water", "road"],
    "sky": ["day", "sunset", "night", "dawn"],
    "weather": ["clear", "rain", "snow"],
}

COLOURS = {
    "red": (222, 44, 48),
    "blue": (44, 104, 236),
    "green": (34, 190, 92),
    "yellow": (252, 206, 30),
    "purple": (152, 62, 214),
    "white": (244, 244, 248),
}

# action: scroll speed (units/frame), gait rate (turns per CYCLE), leg swing, bob (units), jump height (units)
ACTIONS = {
    "stand": (0.0, 1, 0.0, 0.6, 0.0),
    "walk": (2.0, 1, 0.55, 1.0, 0.0),
    "run": (4.0, 2, 1.0, 2.2, 0.0),
    "jump": (2.0, 1, 0.45, 0.0, 20.0),
}
# In this frame of a cycle every gait is at its beginning; it is the middle of a change that begins with a block.
GAIT_START = 3

# sky: zenith, horizon, disc (x as a fraction of the width, y, radius), disc colour, cloud colour, light, stars
SKIES = {
    "day": ((70, 150, 235), (186, 226, 250), (0.80, 21, 9), (255, 240, 150), (255, 255, 255), (1.0, 1.0, 1.0), 0),
    "sunset": ((96, 52, 128), (255, 138, 62), (0.76, 58, 15), (255, 214, 90), (255, 150, 120), (1.0, 0.76, 0.64), 0),
    "night": ((30, 40, 92), (80, 98, 160), (0.80, 21, 9), (240, 242, 255), (92, 106, 158), (0.64, 0.69, 0.92), 1),
    "dawn": ((120, 190, 205), (255, 206, 214), (0.22, 54, 11), (255, 250, 220), (255, 226, 232), (0.94, 0.86, 0.92), 0),
}

HORIZON = 78  # row where the ground begins
FEET = 96  # row the subject stands on
SUBJECT_X = 88.32
LAYERS = {"clouds": (0.125, 256), "hills": (0.25, 128), "props": (0.5, 96), "ground": (1.0, 96)}  # parallax, period


def sample_attributes(rng: np.random.Generator) -> dict[str, str]:
    """One uniformly random value per attribute."""
    return {name: values[rng.integers(len(values))] for name, values in ATTRIBUTES.items()}


def phases(seed: int | None) -> list[float]:
    """Everything that chance decides in a story, in turns 0..1: where each of `LAYERS` begins. None: the fixed place
    where the stories of the model begin (data.py says why)."""
    return [0.0] * len(LAYERS) if seed is None else np.random.default_rng(seed).uniform(size=len(LAYERS)).tolist()
