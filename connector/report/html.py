"""What all pages share: their style, how they write numbers, and a template that escapes every text."""

from __future__ import annotations

from importlib.resources import files
from typing import Any, Final

from jinja2 import Environment, StrictUndefined, Template
from markupsafe import Markup

from connector.base.amounts import counted, dollars, duration
from connector.base.terminal import printable

_NOTHING: Final = "n/a"


def template(package: str | None) -> Template:
    """Returns the template `page.html` of a package. It can use `head` and `style`, which all pages share."""
    text = files(package or __package__).joinpath("page.html").read_text(encoding="utf-8")
    return _ENVIRONMENT.from_string(text, globals={"head": Markup(HEAD), "style": Markup(STYLE)})  # noqa: S704 - files of ours


HEAD: Final = files(__package__).joinpath("head.html").read_text(encoding="utf-8").strip()
"""The head of every page. Among other things, it forbids the browser to load or send anything."""

COLOURS: Final = files(__package__).joinpath("colours.css").read_text(encoding="utf-8")
"""The colours of pages, light and dark, as CSS variables."""

STYLE: Final = COLOURS + files(__package__).joinpath("style.css").read_text(encoding="utf-8")
"""The look of pages, as CSS: light, dark, and on paper."""


def number(value: float) -> str:
    """Returns a number for people."""
    if float(value).is_integer() and abs(value) < 1e15:  # noqa: PLR2004 - where floats are whole anyway
        return f"{int(value):,}"
    return f"{value:,.2f}" if abs(value) >= 1 else f"{value:.3g}"


def _count(value: int | None) -> str:
    return "unknown" if value is None else f"{value:,}"


def _usd(value: float | None) -> str:
    return "unknown" if value is None else dollars(value)


def ms(value: float | None) -> str:
    """Returns milliseconds as a duration for people."""
    if value is None:
        return _NOTHING
    return f"{value:,.0f} ms" if value < 1000 else f"{value / 1000:,.1f} s"  # noqa: PLR2004 - a second


def _share(part: int, whole: int) -> str:
    """Returns a share in per cent, never rounded to 0 or 100."""
    if not whole:
        return _NOTHING
    share = 100 * part / whole
    if 0 < share < 0.1:  # noqa: PLR2004 - what would be shown as 0.0
        return "< 0.1 %"
    return f"{share:.0f} %" if part in (0, whole) else f"{min(share, 99.9):.1f} %"


def _when(iso: str | None) -> str:
    return "unknown" if iso is None else f"{iso[:10]} {iso[11:16]} UTC"


def _shown(value: Any) -> Any:
    """Makes terminal control and text direction characters visible as text; markup stays as it is."""
    return printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value


_ENVIRONMENT: Final = Environment(
    autoescape=True, finalize=_shown, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
)
_ENVIRONMENT.filters |= {
    "count": _count,
    "counted": counted,
    "duration": duration,
    "ms": ms,
    "number": number,
    "share": _share,
    "usd": _usd,
    "when": _when,
}
