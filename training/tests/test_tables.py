import hashlib
import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

BENCH = Path(__file__).resolve().parent.parent.parent / "bench"
sys.path.insert(0, str(BENCH))

from draw import save_strip  # noqa: E402
from film import Setup, Studio, edit_package  # noqa: E402
from measure import Cache  # noqa: E402
from tables.report import markdown, plot  # noqa: E402
from tables.tables import TABLES, Claim, long_table  # noqa: E402

PACKAGE = BENCH.parent / "models/pocket"


def row(label: str, value: float = 0.9, jump: float = 1.0) -> dict:
    share = {"all": value, "subject": value, "colour": value, "action": value, "ground": value, "sky": value, "weather": value}
    quality = {"prompt": share, "changed": share, "kept": share, "first": share, "last": share, "drift": value, "frechet": 1 - value, "seam": 1.0,
               "jump": {"median": jump, "p95": jump, "within1.5": 1.0},
               "arrival": {"1.00": value / 2, "2.00": value}, "course": {s: value for s in ("30", "60", "120", "240")}}  # fmt: skip
    psnr = {"firstSecond": 30.0, "all": 20.0}
    return {"label": label, "quality": quality, "psnr": psnr, "speed": {"framesPerSecond": 50.0, "weightBytes": 3 << 20, "sessionBytes": 5 << 20, "switchMilliseconds": 80.0}}


@pytest.mark.parametrize("table", [*TABLES, long_table({}, {})], ids=lambda t: t.name)
def test_every_table_is_written_whole(table, tmp_path) -> None:
    rows = [row(label, 0.9 - 0.1 * i) for i, label in enumerate(table.rows)]
    text = markdown(table, rows, "conditions")
    body = [line for line in text.splitlines() if line.startswith("| ")][1:]
    assert len(body) == len(table.rows) and all(line.count("|") == len(table.columns) + 2 and "| |" not in line for line in body)
    assert all(claim.text in text for claim in table.claims)
    plot(table, rows, tmp_path / "plot.png")
    size = (tmp_path / "plot.png").stat().st_size
    assert 2000 < size < 150_000 and Image.open(tmp_path / "plot.png").width > 400


def test_claims_are_held_against_the_numbers() -> None:
    [recache] = [t for t in TABLES if t.name == "recache"]
    good = {label: row(label, value) for label, value in (("recache", 0.9), ("keep cache", 0.5), ("clear cache", 0.91))}
    assert all(claim.holds(good) for claim in recache.claims)
    assert not recache.claims[0].holds(good | {"recache": row("recache", 0.8)})
    assert not recache.claims[1].holds(good | {"recache": row("recache", 0.9, jump=1.2)})
    text = markdown(replace(recache, claims=[Claim("All is well.", lambda rows: False, "it is not")]), [*good.values()], "")
    assert "All is well. **Does not hold here:** it is not." in text


def test_setups_differ_in_what_films_depend_on() -> None:
    keys = {Setup(PACKAGE, **fields).key() for table in TABLES for fields in table.rows.values()}
    assert Setup(PACKAGE).key() in keys and Setup(PACKAGE, config={"windowFrames": 6}).key() != Setup(PACKAGE).key()
    sampling = json.loads((PACKAGE / "config.json").read_text())["sampling"]
    assert Setup(PACKAGE, config={"windowFrames": sampling["windowFrames"]}).key() == Setup(PACKAGE).key()
    assert Setup(PACKAGE, precision="int8").key() != Setup(PACKAGE, kv="int8").key() != Setup(PACKAGE).key()


def test_an_edited_package_is_whole_and_the_original_untouched(tmp_path) -> None:
    before = (PACKAGE / "config.json").read_bytes()
    out = edit_package(PACKAGE, {"windowFrames": 6, "sinkFrames": 0}, tmp_path / "edited")
    assert json.loads((out / "config.json").read_text())["sampling"]["windowFrames"] == 6
    entry = json.loads((out / "manifest.json").read_text())["files"]["config.json"]
    assert entry["sha256"] == hashlib.sha256((out / "config.json").read_bytes()).hexdigest()
    assert (PACKAGE / "config.json").read_bytes() == before
    with pytest.raises(ValueError, match="no sampling setting windows"):
        edit_package(PACKAGE, {"windows": 6}, tmp_path / "other")


WORKER = """
import json, sys
for line in sys.stdin:
    job = json.loads(line)
    if "wrong" in job["timeline"]:
        print(json.dumps({"error": "what went wrong"}), flush=True)
        continue
    open(job["out"], "wb").write(bytes([job["seed"]]))
    print(json.dumps({"frames": job["blocks"], "seconds": 1.5, "blockMilliseconds": [], "recacheMilliseconds": [], "sessionBytes": 1, "weightBytes": 2}), flush=True)
"""


def case(seed: int, timeline: object = ()) -> dict:
    return {"name": f"case-{seed}", "seed": seed, "blocks": 3, "timeline": timeline}


def test_films_come_in_order_and_can_be_kept(tmp_path) -> None:
    command = [sys.executable, "-c", WORKER]
    cases = [case(i) for i in range(5)]
    with Studio(2, command=command) as studio:
        films = [*studio.shoot(Setup(PACKAGE), cases)]
        assert [c["seed"] for c, _ in films] == [film.path.read_bytes()[0] for _, film in films] == [0, 1, 2, 3, 4]
        studio.discard(films[0][1])
        assert not films[0][1].path.exists() and films[1][1].path.exists()
    assert not films[1][1].path.exists()
    for made in (command, [sys.executable, "-c", ""]):  # the second cannot film, and need not
        with Studio(1, keep=tmp_path / "kept", command=made) as studio:
            [(_, film)] = studio.shoot(Setup(PACKAGE), cases[:1])
            studio.discard(film)
            assert film.path.exists() and film.frames == 3


def test_a_film_that_fails_says_why() -> None:
    for command, message in (([sys.executable, "-c", WORKER], "what went wrong"), ([sys.executable, "-c", ""], "has ended")):
        with Studio(1, command=command) as studio, pytest.raises(RuntimeError, match=message):
            list(studio.shoot(Setup(PACKAGE), [case(1, ["wrong"])]))


def test_what_was_measured_is_not_measured_again(tmp_path) -> None:
    cache, calls = Cache(tmp_path), []

    def measure() -> dict:
        calls.append(1)
        return {"value": len(calls)}

    assert cache.get(measure, "quality", "a")["value"] == cache.get(measure, "quality", "a")["value"] == 1
    assert cache.get(measure, "quality", "b")["value"] == 2

    def fail() -> dict:
        raise RuntimeError

    with pytest.raises(RuntimeError):
        cache.get(fail, "c")
    assert cache.get(measure, "c")["value"] == 3


def test_a_strip_has_a_labelled_row_for_each_film(tmp_path) -> None:
    frames = np.zeros((3, 20, 30, 3), np.uint8)
    save_strip([("one", frames), ("two", frames[:2])], tmp_path / "strip.png")
    assert Image.open(tmp_path / "strip.png").size == (3 * 32 - 2, 2 * 36)
