"""What a caller's ``Accept`` header asks for. Pure."""

from __future__ import annotations


def prefers_svg(accept: str) -> bool:
    """Whether an SVG is asked for before JSON (RFC 9110, 12.5.1); JSON where nothing is."""
    svg = max(_quality(accept, "image/svg+xml"), _quality(accept, "image/*"))
    return svg > 0 and svg > max(
        _quality(accept, "application/json"), _quality(accept, "application/*")
    )


def _quality(accept: str, kind: str) -> float:
    """The weight that a media range is given by its own name; 0 where it is not named."""
    for part in accept.split(","):
        name, *parameters = (piece.strip().lower() for piece in part.split(";"))
        if name != kind:
            continue
        for one in parameters:
            if one.startswith("q="):
                try:
                    return float(one[2:])
                except ValueError:
                    return 0.0
        return 1.0
    return 0.0
