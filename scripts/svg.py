"""A few shapes of SVG, written as text: enough for bar charts, with nothing to install."""

from xml.sax.saxutils import escape

FONT = "DejaVu Sans, Helvetica, Arial, sans-serif"
INK = "#222222"
FAINT = "#777777"
GRID = "#dddddd"
# Okabe and Ito's colours, which people with any kind of colour vision tell apart.
BLUE, ORANGE, GREEN, PURPLE, GREY = "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#999999"


class Svg:
    def __init__(self, width, height):
        self.width, self.height = width, height
        self.parts = [f'<rect width="{width}" height="{height}" fill="white"/>']

    def rect(self, x, y, width, height, fill):
        self.parts.append(f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" fill="{fill}"/>')

    def line(self, x1, y1, x2, y2, stroke=GRID, dash=""):
        self.parts.append(f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{stroke}"'
                          + (f' stroke-dasharray="{dash}"' if dash else "") + "/>")

    def text(self, x, y, words, size=13, anchor="start", fill=INK, bold=False):
        weight = ' font-weight="bold"' if bold else ""
        self.parts.append(f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}" fill="{fill}"{weight}>'
                          f"{escape(words)}</text>")

    def save(self, path):
        with open(path, "w", encoding="utf-8") as file:
            file.write(f'<svg xmlns="http://www.w3.org/2000/svg" width="{self.width}" height="{self.height}" '
                       f'viewBox="0 0 {self.width} {self.height}" font-family="{FONT}">\n')
            file.write("\n".join(self.parts))
            file.write("\n</svg>\n")


def nice_step(most, steps=4):
    """The smallest of 1, 2, 2.5, 5 times a power of ten that cuts [0, most] into at most `steps`."""
    power = 1e-9
    while True:
        for factor in (1, 2, 2.5, 5):
            if most / (factor * power) <= steps:
                return factor * power
        power *= 10


class Bars:
    """Groups of upright bars over a value axis: frame (x, y, width, height), y at the top."""

    def __init__(self, svg, frame, most, tick_text, bottom_labels):
        self.svg, self.frame = svg, frame
        x, y, width, height = frame
        step = nice_step(most)
        self.top = step * -(-most // step)
        tick = 0.0
        while tick <= self.top * 1.0001:
            at = y + height - height * tick / self.top
            svg.line(x, at, x + width, at, FAINT if tick == 0 else GRID)
            svg.text(x - 6, at + 4, tick_text(tick), 12, "end", FAINT)
            tick += step
        self.groups = len(bottom_labels)
        for group, label in enumerate(bottom_labels):
            svg.text(x + width * (group + 0.5) / self.groups, y + height + 18, label, 13, "middle")

    def bar(self, group, index, count, value, fill, label="", gap=0.25):
        x, y, width, height = self.frame
        group_width = width / self.groups
        bar_width = group_width * (1 - gap) / count
        left = x + group_width * group + group_width * gap / 2 + bar_width * index
        tall = height * value / self.top
        self.svg.rect(left + 1, y + height - tall, max(bar_width - 2, 1), tall, fill)
        if label:
            self.svg.text(left + bar_width / 2, y + height - tall - 5, label, 11, "middle")


def legend(svg, x, y, entries):
    """(fill, words) side by side; returns nothing, wraps nothing."""
    for fill, words in entries:
        svg.rect(x, y - 10, 12, 12, fill)
        svg.text(x + 17, y, words, 12)
        x += 17 + 7.3 * len(words) + 18
