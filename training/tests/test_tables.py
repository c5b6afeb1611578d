import hashlib
import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

BENCH = Path(__file__).resolve().parent.parent.parent / "bench"
sys.path.insert(0, str(BENCH))

from draw import save_strip  # noqa: E402
from film import Setup, Studio, edit_package  # noqa: E402
from measure import Bench, Cache, some  # noqa: E402
from longlive_training.evaluate import from_world, make_case, make_cases  # noqa: E402
from longlive_training.metrics import Observation  # noqa: E402
from longlive_training.world import STAGE  # noqa: E402

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


@pytest.mark.parametrize("table", [*TABLES, long_table(PACKAGE, PACKAGE)], ids=lambda t: t.name)
def test_every_table_is_written_whole(table, tmp_path) -> None:
    rows = [row(label, 0.9 - 0.1 * i) for i, label in enumerate(table.rows)]
    text = markdown(table, rows, "conditions", table.count)
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
    text = markdown(replace(recache, claims=[Claim("All is well.", lambda rows: False, "it is not")]), [*good.values()], "", 2)
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


WIDTH, HEIGHT = Setup(PACKAGE).size()
# Films of as many frames as blocks, each filled with the seed; their seconds are the threads that were asked for.
WORKER = f"""
import json, sys
for line in sys.stdin:
    job = json.loads(line)
    if "wrong" in job["timeline"]:
        print(json.dumps({{"error": "what went wrong"}}), flush=True)
        continue
    for block in range(job["blocks"] if job["frames"] else 0):
        frame = bytes([job["seed"]]) * {WIDTH * HEIGHT * 3}
        print(json.dumps({{"bytes": len(frame)}}), flush=True)
        sys.stdout.buffer.write(frame[:100] if "torn" in job["timeline"] else frame)
        sys.stdout.buffer.flush()
        if "torn" in job["timeline"]:
            sys.exit()
    print(json.dumps({{"frames": job["blocks"], "seconds": job["load"]["threads"], "blockMilliseconds": [], "recacheMilliseconds": [],
                      "sessionBytes": 1, "weightBytes": 2}}), flush=True)
"""


def case(seed: int, timeline: object = ()) -> dict:
    return {"name": f"case-{seed}", "seed": seed, "blocks": 3, "timeline": timeline}


def whole(_: dict, pieces: Iterator[np.ndarray]) -> np.ndarray:
    return np.concatenate([*pieces])


def test_films_come_in_order_and_can_be_kept(tmp_path) -> None:
    command = [sys.executable, "-c", WORKER]
    cases = [case(i) for i in range(5)]
    with Studio(2, command=command) as studio:
        films = [*studio.shoot(Setup(PACKAGE), cases, whole)]
        assert [c["seed"] for c, _, _ in films] == [seen.max() for _, _, seen in films] == [seen.min() for _, _, seen in films] == [0, 1, 2, 3, 4]
        assert {seen.shape for _, _, seen in films} == {(3, HEIGHT, WIDTH, 3)} and not [*studio.folder.iterdir()]
        assert [seen for _, _, seen in studio.shoot(Setup(PACKAGE), cases)] == [None] * 5
    for made in (command, [sys.executable, "-c", ""]):  # the second cannot film, and need not
        with Studio(1, keep=tmp_path / "kept", command=made) as studio:
            [(_, film, seen)] = studio.shoot(Setup(PACKAGE), cases[1:2], whole)
            assert film.frames == 3 and seen.shape == (3, HEIGHT, WIDTH, 3) and seen.max() == 1


def test_a_film_alone_has_all_threads() -> None:
    with Studio(3, command=[sys.executable, "-c", WORKER]) as studio:
        assert [f.seconds for _, f, _ in studio.shoot(Setup(PACKAGE), [case(0)])] == [3]
        assert [f.seconds for _, f, _ in studio.shoot(Setup(PACKAGE), [case(0), case(1)])] == [1, 1]


def test_frames_pass_through_and_some_are_copied() -> None:
    video, kept = np.arange(27, dtype=np.uint8).reshape(27, 1, 1, 1), []
    assert np.array_equal(np.concatenate([*some(iter([video[:9], video[9:21], video[21:]]), 5, kept)]), video)
    assert [int(f.item()) for f in kept] == [0, 5, 10, 15, 20, 25]


def test_a_film_that_fails_says_why() -> None:
    worker = [sys.executable, "-c", WORKER]
    for command, fault, message in ((worker, "wrong", "what went wrong"), (worker, "torn", "has ended"), ([sys.executable, "-c", ""], "", "has ended")):
        with Studio(1, command=command) as studio, pytest.raises(RuntimeError, match=message):
            list(studio.shoot(Setup(PACKAGE), [case(1, [fault])], whole))


def test_who_does_not_look_to_the_end_is_told() -> None:
    with Studio(1, command=[sys.executable, "-c", WORKER]) as studio, pytest.raises(RuntimeError, match="unseen"):
        list(studio.shoot(Setup(PACKAGE), [case(1)], lambda _, pieces: next(pieces)))


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


def test_an_observation_comes_back_as_it_was(tmp_path) -> None:
    cache = Cache(tmp_path)
    seen = Observation(9, {"sky": 0.5}, changed={"sky": [True, False]}, jumps=[1.5], features=np.arange(6.0).reshape(2, 3), drift=0.25)
    frames = [np.full((2, 2, 3), i, np.uint8) for i in range(3)]
    cache.put(seen, frames, "film", "a")
    assert cache.has("film", "a") and not cache.has("film", "b")
    back = cache.observation("film", "a")
    assert np.array_equal(back.features, seen.features) and np.array_equal(cache.stills("film", "a"), np.stack(frames))
    back.features = seen.features
    assert back == seen
    cache.put(Observation(1), [], "film", "b")
    assert cache.observation("film", "b") == Observation(1)


def test_only_films_that_are_missing_are_made(tmp_path, monkeypatch) -> None:
    made, cases = [], [make_case(c["name"], 1, [{**c["timeline"][0], "blocks": 4}]) for c in make_cases("single", 3)]

    def shoot(self, setup, cases, see):
        for case in cases:
            made.append(case["name"])
            yield case, None, see(case, from_world(case, STAGE))

    monkeypatch.setattr(Studio, "shoot", shoot)
    with Bench(tmp_path, 1) as bench:
        first = bench.quality(Setup(PACKAGE), cases[:2], "some", rendered=False)
        again = bench.quality(Setup(PACKAGE), cases, "all", rendered=False)
        assert made == [c["name"] for c in cases] and first["videos"] == 2 and again["videos"] == 3
        shown = bench.stills(Setup(PACKAGE), cases, [0.5, 2], 2)
        assert [c["name"] for c, _ in shown] == made[:2] and shown[0][1].shape == (2, STAGE[1], STAGE[0], 3)


def test_a_strip_has_a_labelled_row_for_each_film(tmp_path) -> None:
    frames = np.zeros((3, 20, 30, 3), np.uint8)
    save_strip([("one", frames), ("two", frames[:2])], tmp_path / "strip.jpg")
    assert Image.open(tmp_path / "strip.jpg").size == (3 * 32 - 2, 2 * 36)
