"""python clients/python/examples/film.py "a red fox runs on the grass by day" film.mp4"""

import asyncio
import os
import sys
from pathlib import Path

from longlive_client import create_client


async def make(prompt: str) -> bytes:
    url = os.environ.get("LONGLIVE_URL", "http://localhost:4000")
    async with create_client(url, token=os.environ.get("LONGLIVE_TOKEN")) as live:
        film = await live.render(
            timeline=[{"prompt": prompt}, {"prompt": "a blue robot walks on the road at night", "at_seconds": 3}],
            max_seconds=6,
            on_progress=lambda seconds, of: print(f"{seconds} of {of} s"),
        )
        return await film.download()


if __name__ == "__main__":
    given = sys.argv[1:]
    film = asyncio.run(make(given[0] if given else "a red fox runs on the grass by day"))
    Path(given[1] if len(given) > 1 else "film.mp4").write_bytes(film)
