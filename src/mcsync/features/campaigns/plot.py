"""A campaign's opens and clicks over time as a small SVG. Pure; nothing but text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final
from xml.sax.saxutils import escape

_WIDTH, _HEIGHT = 720, 320
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 16, 48, 40
_SIZE: Final = f'width="{_WIDTH}" height="{_HEIGHT}" role="img" aria-labelledby="title"'
_MOST: Final = 400
"""More points than this no screen of that width tells apart."""
_OPENS, _CLICKS = "#2a78d6", "#eb6834"
_STEPS: Final = (1, 2, 5, 10)
_STYLE: Final = """\
.bg{fill:#fff}.grid{stroke:#e3e3e0}.axis{stroke:#8a8984}.t{fill:#3b3a37;font:12px system-ui,sans-serif}
.h{fill:#1a1a19;font:600 14px system-ui,sans-serif}
@media(prefers-color-scheme:dark){.bg{fill:#1a1a19}.grid{stroke:#3b3a37}.t{fill:#c3c2b7}.h{fill:#fff}}"""


@dataclass(frozen=True, slots=True)
class Sample:
    """People who opened and who clicked, up to one moment."""

    at: datetime
    opens: int
    clicks: int


def render(title: str, samples: Sequence[Sample]) -> str:
    """The whole document; an empty history is a plot that says so."""
    shown = _thinned(samples)
    body = _curves(shown) if shown else [_text(_WIDTH / 2, _HEIGHT / 2, "No figures yet", "middle")]
    name = escape(_printable(title))
    return "\n".join(
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" {_SIZE}>',
            f'<title id="title">Opens and clicks over time: {name}</title>',
            f"<style>{_STYLE}</style>",
            f'<rect class="bg" width="{_WIDTH}" height="{_HEIGHT}"/>',
            f'<text class="h" x="{_LEFT}" y="22">{_cut(name, title)}</text>',
            *body,
            "</svg>\n",
        )
    )


def spark(values: Sequence[int]) -> str:
    """A line of blocks, as high as the values lie between none and the largest."""
    top = max(values, default=0)
    if not top:
        return "▁" * len(values)
    return "".join("▁▂▃▄▅▆▇█"[round(7 * value / top)] for value in values)


def _curves(samples: Sequence[Sample]) -> list[str]:
    first, last = samples[0].at, samples[-1].at
    span = (last - first).total_seconds() or 1.0
    step = _step(max(max(one.opens, one.clicks) for one in samples))
    top = step * 4
    plot_width, plot_height = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM

    def x(moment: datetime) -> float:
        return _LEFT + plot_width * (moment - first).total_seconds() / span

    def y(value: float) -> float:
        return _TOP + plot_height * (1 - value / top)

    lines = []
    for number in range(5):
        level = y(number * step)
        kind = "grid" if number else "axis"
        lines.append(
            f'<line class="{kind}" x1="{_LEFT}" y1="{level:.1f}" x2="{_WIDTH - _RIGHT}" y2="{level:.1f}"/>'
        )
        lines.append(_text(_LEFT - 8, level + 4, f"{number * step:,}", "end"))
    lines.append(_text(_LEFT, _HEIGHT - 14, _when(first), "start"))
    if last > first:
        lines.append(_text(_WIDTH - _RIGHT, _HEIGHT - 14, _when(last), "end"))
    for label, colour, values, place in (
        ("people who opened", _OPENS, [one.opens for one in samples], 0),
        ("people who clicked", _CLICKS, [one.clicks for one in samples], 190),
    ):
        spots = [(x(one.at), y(value)) for one, value in zip(samples, values, strict=True)]
        drawn = " ".join(f"{across:.1f},{up:.1f}" for across, up in spots)
        lines.append(
            f'<polyline fill="none" stroke="{colour}" stroke-width="2" stroke-linejoin="round"'
            f' points="{drawn}"/>'
        )
        across, up = spots[-1]
        lines.append(f'<circle cx="{across:.1f}" cy="{up:.1f}" r="3" fill="{colour}"/>')
        lines.append(f'<rect x="{_LEFT + place}" y="31" width="12" height="3" fill="{colour}"/>')
        lines.append(_text(_LEFT + place + 18, 37, f"{label}: {values[-1]:,}", "start"))
    return lines


def _text(x: float, y: float, words: str, anchor: str) -> str:
    return f'<text class="t" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{words}</text>'


def _step(most: int) -> int:
    """A round number of which four reach at least ``most``."""
    size = 1
    while True:
        for factor in _STEPS:
            if 4 * factor * size >= most:
                return factor * size
        size *= 10


def _when(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")


def _thinned(samples: Sequence[Sample]) -> Sequence[Sample]:
    if len(samples) <= _MOST:
        return samples
    stride = (len(samples) - 1) / (_MOST - 1)
    return [samples[round(number * stride)] for number in range(_MOST)]


def _printable(title: str) -> str:
    """Without what XML does not allow."""
    return "".join(
        each for each in title if each.isprintable() and not 0xD800 <= ord(each) <= 0xDFFF
    )


def _cut(escaped: str, title: str) -> str:
    plain = _printable(title)
    return escaped if len(plain) <= 80 else escape(plain[:79]) + "…"
