"""The stages of the recipe. Each is a class with `run(context, settings) -> report`; `run.py` calls them in order."""

from .causal import causal
from .clips import clips
from .distill import distill
from .export import export
from .long import long
from .ode import ode
from .teacher import teacher
from .text import text
from .tiny import tiny
from .vae import vae
from .world import world

STAGES = {f.__name__: f for f in (world, clips, vae, tiny, text, teacher, causal, ode, distill, long, export)}
