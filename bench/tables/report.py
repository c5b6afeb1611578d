"""A measured table as Markdown and as a plot."""

from __future__ import annotations

from pathlib import Path

import matplotlib
import numpy as np
from draw import palette
from PIL import Image

from .tables import Column, Row, Table

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402


def markdown(table: Table, rows: list[Row], conditions: str, films: int) -> str:
    named = {row["label"]: row for row in rows}
    lines = [f"# {table.title}", "", conditions, "", table.intro, ""]
    lines += ["| | " + " | ".join(c.title for c in table.columns) + " |", "|---" * (len(table.columns) + 1) + "|"]
    lines += [f"| {row['label']} | " + " | ".join(c.text(row) for c in table.columns) + " |" for row in rows]
    lines += ["", f"![plot]({table.name}.png)", "", f"![frames]({table.name}-strip.jpg)", ""]
    lines += ["Frames at " + ", ".join(f"{s:g}" for s in table.strip) + f" seconds of the {'second' if films > 1 else 'only'} film; rows as in the table.", ""]
    for claim in table.claims:
        lines.append(f"* {claim.text} {'**Holds.**' if claim.holds(named) else f'**Does not hold here:** {claim.otherwise}.'}")
    return "\n".join(lines) + "\n"


def _at(row: Row, path: str) -> dict:
    for part in path.split("/"):
        row = row.get(part, {})
    return row


def plot(table: Table, rows: list[Row], path: Path) -> None:
    parts = bool(table.bars) + bool(table.curve)
    figure, axes = plt.subplots(1, parts, figsize=(4.6 * parts, 3), layout="constrained", squeeze=False)
    panels = iter(axes[0])
    if table.bars:
        _bars(next(panels), [c for c in table.columns if c.title in table.bars], rows)
    if table.curve:
        where, x, y = table.curve
        axis = next(panels)
        for row in rows:
            points = _at(row, where)
            axis.plot([float(k) for k in points], [100 * v for v in points.values()], marker=".", label=row["label"])
        axis.set(xlabel=x, ylabel=f"{y}, %", ylim=(0, 103))
        axis.legend(fontsize=7)
    figure.savefig(path, dpi=100)
    plt.close(figure)
    palette(Image.open(path)).save(path, optimize=True)


def _bars(axis, columns: list[Column], rows: list[Row]) -> None:
    width = 0.8 / len(columns)
    for i, column in enumerate(columns):
        at = np.arange(len(rows)) + (i - (len(columns) - 1) / 2) * width
        axis.bar(at, [100 * (column.value(row) or 0) for row in rows], width, label=column.title)
    axis.set_xticks(range(len(rows)), [row["label"] for row in rows], fontsize=7, rotation=20 if len(rows) > 3 else 0, ha="right" if len(rows) > 3 else "center")
    axis.set(ylabel="%", ylim=(0, 103))
    axis.legend(fontsize=7, loc="lower right")
