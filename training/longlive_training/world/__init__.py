"""A small procedural side-view world: the data the pocket model learns from.

A camera follows one subject, so the subject stays near the centre and the background scrolls past it in
four parallax layers. Everything is periodic and moves at constant speed, so the last few frames determine
what comes next. Gait, rain and snowfall repeat within `CYCLE` frames, the length of a block, so what the subject
does depends on the frame within the block and not on history. The seed only chooses where the scenery begins. A
prompt switch is an event in the world that lasts `TRANSITION` frames: the sky turns, the ground sweeps in from the
right, the subject vanishes in a puff. What stands on a new ground is at the fixed place when it has arrived: a prompt
alone tells what comes, and a model need not guess where.

Units: x runs right and y down from the corner of the stage, 192 x 112 units around everything that matters (subject space: y up
from the feet). A picture shows the stage in its middle and at its bottom; up to 144 rows a unit is a pixel, and what there is more
than the stage shows more sky and more scenery at both sides. Times are frames at 16 per second.
"""

from .facts import (
    ACTIONS,
    ATTRIBUTES,
    COLOURS,
    CYCLE,
    FEET,
    FPS,
    GAIT_START,
    HORIZON,
    LAYERS,
    SKIES,
    SKYWARD,
    STAGE,
    SUBJECT_X,
    TRANSITION,
    phases,
    sample_attributes,
)
from .picture import render, subject_box
from .timeline import gait
from .view import View

__all__ = [
    "ACTIONS",
    "ATTRIBUTES",
    "COLOURS",
    "CYCLE",
    "FEET",
    "FPS",
    "GAIT_START",
    "HORIZON",
    "LAYERS",
    "SKIES",
    "SKYWARD",
    "STAGE",
    "SUBJECT_X",
    "TRANSITION",
    "View",
    "gait",
    "phases",
    "render",
    "sample_attributes",
    "subject_box",
]
