"""Charts over time as HTML and SVG: they stretch with the page, and their colours follow light and dark.

Only lines and areas are SVG, which is stretched as it has to be; all text is HTML beside or above it, so that
it can be read on a telephone as well.
"""

import html
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

Points = Sequence[tuple[float, float]]
"""Times in seconds, each with a value."""

STYLE = """
.chart{display:grid;grid-template-columns:3.2rem 1fr;margin:.5rem 1rem .5rem 0;font-size:.75rem;
color:var(--faint)}
.chart .y{position:relative}.chart .y span{position:absolute;right:.4rem;transform:translateY(-50%)}
.chart .plot{position:relative;height:10rem;background:var(--field)}
.chart svg{position:absolute;inset:0;width:100%;height:100%;display:block}
.chart .plot span{position:absolute;transform:translate(.2rem,-100%);color:var(--line);white-space:nowrap}
.chart .plot span.late{transform:translate(-100%,-100%);margin-left:-.2rem}
.chart .x{grid-column:2;position:relative;height:1.4rem}
.chart .x span{position:absolute;top:.2rem;transform:translateX(-50%);white-space:nowrap}
.chart .keys{grid-column:2;display:flex;flex-wrap:wrap;gap:0 1rem}
.chart .keys i{display:inline-block;width:1.2rem;margin-right:.3rem;vertical-align:middle;
border-top:2px solid}
.chart path{fill:none;stroke-width:1.6;vector-effect:non-scaling-stroke}
.chart .grid{stroke:var(--rule);stroke-width:1}
.chart .mark{stroke:var(--faint);stroke-width:1;stroke-dasharray:2 3}
.chart .line{stroke:var(--line);color:var(--line)}
.chart .limit{stroke:var(--bad);color:var(--bad);stroke-dasharray:6 4}
.chart i.limit{border-top-style:dashed}
.chart .band{fill:var(--band);stroke:var(--band)}.chart i.band{border:0;height:.7rem;background:var(--band)}
.chart .plot i{position:absolute;width:.5rem;height:.5rem;border:0;border-radius:50%;background:currentColor;
transform:translate(-50%,-50%)}
"""

_SECONDS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 21_600, 43_200, 86_400)


@dataclass
class Chart:
    """What is shown: runs of points, between which there is no line."""

    title: str
    began: float
    ended: float
    span: tuple[float, float]
    """The values at the lower and the upper edge; what is beyond is drawn at the edge."""
    lines: Sequence[tuple[str, str, Sequence[Points]]] = ()
    """Label, style (`line` or `limit`) and runs."""
    band: Sequence[tuple[Points, Points]] = ()
    """Runs of lower and of upper ends, at the same times."""
    marks: Sequence[float] = ()
    """Moments."""
    notes: Sequence[tuple[float, float, str]] = ()
    """Texts, each at a time and a value."""

    def html(self) -> str:
        """The chart."""
        return "".join(self._parts())

    def _parts(self) -> Iterator[str]:
        yield '<div class="chart"><div class="y">'
        for value in ticks(*self.span):
            yield f'<span style="top:{self._down(value):.4g}%">{value:.6g}</span>'
        yield '</div><div class="plot"><svg viewBox="0 0 100 100" preserveAspectRatio="none" role="img">'
        yield f"<title>{html.escape(self.title)}</title>"
        for value in ticks(*self.span):
            yield f'<path class="grid" d="M0 {self._down(value):.4g}H100"/>'
        for at in self.marks:
            yield f'<path class="mark" d="M{self._right(at):.4g} 0V100"/>'
        for low, high in self.band:
            yield f'<path class="band" d="M{self._through([*low, *reversed(high)])}Z"/>'
        for _, style, runs in self.lines:
            for points in runs:
                if len(points) > 1:
                    yield f'<path class="{style}" d="M{self._through(points)}"/>'
        yield "</svg>"
        for _, style, runs in self.lines:
            for points in runs:
                if len(points) == 1:  # a line of no length is not to be seen
                    yield f'<i class="{style}" style="{self._place(*points[0])}"></i>'
        for at, value, text in self.notes:
            style = "late" if self._right(at) > 85 else ""  # it would go over the edge
            yield f'<span class="{style}" style="{self._place(at, value)}">{html.escape(text)}</span>'
        yield '</div><div class="x">'
        for seconds, text in times(self.ended - self.began):
            yield f'<span style="left:{self._right(self.began + seconds):.4g}%">{text}</span>'
        yield '</div><div class="keys">'
        keys = [(label, style) for label, style, _ in self.lines]
        for label, style in [*keys, *([("interval", "band")] if self.band else [])]:
            yield f'<span><i class="{style}"></i>{html.escape(label)}</span>'
        yield "</div></div>"

    def _through(self, points: Points) -> str:
        return "L".join(f"{self._right(at):.5g} {self._down(value):.5g}" for at, value in points)

    def _place(self, at: float, value: float) -> str:
        return f"left:{self._right(at):.4g}%;top:{self._down(value):.4g}%"

    def _right(self, at: float) -> float:
        return 100 * min(max((at - self.began) / max(self.ended - self.began, 1e-9), 0), 1)

    def _down(self, value: float) -> float:
        low, high = self.span
        return 100 * (1 - (min(max(value, low), high) - low) / (high - low))


def ticks(low: float, high: float) -> list[float]:
    """Three to six round numbers between two."""
    rough = (high - low) / 4
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * part for part in (1, 2, 5, 10) if power * part >= rough * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(number * step, 12) for number in range(first, last + 1)]


def times(seconds: float) -> list[tuple[float, str]]:
    """At most six moments, and what they are called."""
    days = math.ceil(seconds / 86_400 / 5)
    step = next((one for one in _SECONDS if seconds / one <= 5), 86_400 * max(days, 1))
    unit, name = next((u, n) for u, n in ((86_400, "d"), (3600, "h"), (60, "min"), (1, "s")) if step >= u)
    return [(at, f"{at / unit:g} {name}") for at in range(0, math.floor(seconds) + 1, step)]
