"""A flame graph as SVG, from stacks and how often each was seen."""
from __future__ import annotations

import zlib
from html import escape

WIDTH, ROW, LETTER = 1200, 17, 7.2
HEAD = """<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" font-family="monospace" font-size="12">
<style>rect:hover {{ stroke: black }} text {{ pointer-events: none }}</style>
<text x="{middle}" y="16" text-anchor="middle" font-size="14">{title}</text>
"""


def tree(stacks: dict[tuple[str, ...], int]) -> dict:
    """Nested {name: [count, children]}, from the outermost frame on."""
    top: dict = {}
    for stack, count in stacks.items():
        level = top
        for name in stack:
            entry = level.setdefault(name, [0, {}])
            entry[0] += count
            level = entry[1]
    return top


def depth(level: dict) -> int:
    return 1 + max((depth(children) for _, children in level.values()), default=0)


def svg(stacks: dict[tuple[str, ...], int], title: str) -> str:
    """The outermost frame lies at the bottom; each is as wide as it was often, and says so when pointed at."""
    total = sum(stacks.values()) or 1
    top = tree(stacks)
    height = (depth(top) + 2) * ROW + 10
    parts = [HEAD.format(width=WIDTH, height=height, middle=WIDTH // 2, title=escape(title))]

    def add(level: dict, left: float, bottom: int) -> None:
        for name, (count, children) in sorted(level.items()):
            width = count * WIDTH / total
            if width >= 0.3:
                shade = zlib.crc32(name.encode())
                color = f"rgb({205 + shade % 50},{80 + (shade >> 8) % 120},{(shade >> 16) % 55})"
                letters = int(width / LETTER) - 1
                text = "" if letters < 3 else escape(name if len(name) <= letters else name[:letters - 2] + "..")
                parts.append(
                    f'<g><title>{escape(name)}: {count} samples, {100 * count / total:.1f} %</title>'
                    f'<rect x="{left:.1f}" y="{bottom - ROW}" width="{width:.1f}" height="{ROW - 1}" fill="{color}"/>'
                    f'<text x="{left + 3:.1f}" y="{bottom - 5}">{text}</text></g>\n')
                add(children, left, bottom - ROW)
            left += width

    add(top, 0.0, height - 5)
    return "".join(parts) + "</svg>\n"
