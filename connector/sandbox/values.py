"""The sandbox's words and JSON values, made up from the data of a request by fixed rules.

- The *data* is the text of the last user message after a field such as `Review:` or a lead-in such as `Classify this
  text:`; else after its last line that ends with a colon; else after the first colon of its first line; else all of it.
- If the request asks for JSON (`response_format`, or a tool that must be called), a value is made for the schema. An
  enum gives the label with the most cue words in the data; in a draw `mixed`, if that is a label; without any cue
  `neutral` or `other`, or else one by hash. A string is the data's first sentence, at most 12 words. A number is
  chosen by hash within its bounds. Of alternatives, the first is used. A schema without a valid value gets a 400.
- A token is up to four characters of a word, with the white space before it.
"""

from __future__ import annotations

import math
import re
import uuid
import zlib
from collections.abc import Callable
from datetime import date
from fractions import Fraction
from functools import lru_cache
from itertools import cycle
from typing import Any, Final, NamedTuple

import orjson
from jsonschema import Draft202012Validator, SchemaError, ValidationError
from referencing import Registry
from referencing.exceptions import Unresolvable
from referencing.jsonschema import DRAFT202012

from connector.base.records import JSON, Schema
from connector.base.regex import regex

_LEAD_INS: Final = (
    regex(r"(?ims)^[^\n:]*\b(?:review|text|input|message|comment|feedback|ticket|data):\s*(\S.*)"),
    regex(r"(?s)\A.*:[ \t]*\n\s*(\S.*)"),
    regex(r"(?s)\A[^\n:]*:\s+(\S.*)"),
)
_SENTENCE_END: Final = regex(r"(?<=[.!?\u2026])\s+|(?<=[\u3002\uff01\uff1f])|\n+")
TOKEN: Final = regex(r"\s+\S{0,4}|\S{1,4}")

# Beginnings of words that are cues for a label, in the languages of sample_configs/reviews.csv.
# Every label is also a cue for itself.
_CUES: Final = {
    "positive": r"amazing beautiful best better brilliant comfort cosy excellent good great happy impress lov nice "
    r"perfect recommend reliabl thank wonderful works worth begeister beque empfehl gern gut super toll "
    r"wunder belle bon excelente parfait recommande très bien buen encanta 👍 最高 満足 楽し 美味 良",
    "negative": r"avoid awful bad\b broke crack danger dead died disappoint disgust expired fail freez horr leak lied "
    r"mess mould never not\sworth poor refuse return rubbish rust slow smell stuck terribl useless waste "
    r"wobbl worr wrong enttäusch fehlkauf kaputt leider cassé déçu inadmissible mauvais panne mala nadie "
    r"rompi rota 悪 残念 錆",
    "mixed": r"although but\b however though wish aber allerdings aunque dommage mais pero",
    "quality": r"broke crack died fail flak flims loose lasts peel qualit rust scratch seam soft stitch sturdy surviv "
    r"tore work kaputt verarbeitung cassé rompi rota 丈夫 錆",
    "performance": r"accura batter[iy] bright clean grip heat loud nois power quick screen sharp slow sound warm "
    r"laut leise lent rápid silenc 音",
    "ease of use": r"app\b assembl button easy instruct manual menu pair set-?\s?up simple aufbau einfach facile fácil",
    "price": r"cheap cost euro expensive money overpriced price spare value worth preis prix precio dinero",
    "delivery": r"arriv carrier courier deliver express packed parcel ship waited geliefert livraison llegó 届",
    "service": r"customer exchange hotline refund return seller service support kundendienst 返品",
}


def data_of(message: str) -> str:
    """Returns the data of a message, without its instructions."""
    found = next(filter(None, (lead_in.search(message) for lead_in in _LEAD_INS)), None)
    return found[1] if found else message


def _sentences(text: str) -> list[str]:
    return [part.strip() for part in _SENTENCE_END.split(text) if part.strip()] or ["(no text)"]


def first_words(text: str, most: int) -> str:
    """Returns the first `most` words, separated by single spaces."""
    words = text.split()
    return " ".join(words[:most])[:200] + ("…" if len(words) > most else "")


@lru_cache(maxsize=256)
def _cue(label: str) -> re.Pattern[str]:
    plain = label.lower().replace("_", " ")
    stems = [re.escape(plain), *_CUES.get(plain, "").split()]
    return re.compile(rf"(?<![a-zà-ÿ])(?:{'|'.join(stems)})", re.IGNORECASE)


# --- Values: a JSON Schema is filled from the data ---

_DEPTH: Final = 4  # from this depth on, a recursive schema is left by the shortest way
_MOST: Final = 1000  # items or characters: a schema that asks for more is refused


class _At(NamedTuple):
    """The place in a schema for which a value is needed, and the text from which it is made."""

    text: str
    resolver: Any
    salt: int
    path: tuple[str, ...] = ()

    @property
    def seed(self) -> int:
        return zlib.crc32(repr((self.salt, self.path, self.text)).encode())

    @property
    def deep(self) -> bool:
        return len(self.path) > _DEPTH


@lru_cache(maxsize=64)
def _compiled(schema: bytes) -> tuple[Draft202012Validator, Any]:
    """Returns the schema's validator and resolver. Their registry is empty: no remote `$ref` is ever fetched."""
    root, registry = orjson.loads(schema), Registry[Any]()
    Draft202012Validator.check_schema(root)
    resolver = registry.resolver_with_root(DRAFT202012.create_resource(root))
    return Draft202012Validator(root, registry=registry), resolver


def written(schema: Schema, text: str, salt: int) -> str:
    """Returns JSON text that fits the schema. Raises `ValueError` if that is invalid or the sandbox cannot fill it."""
    try:
        validator, resolver = _compiled(orjson.dumps(schema))
        value = _value(schema, _At(text, resolver, salt))
        validator.validate(value)
        return orjson.dumps(value).decode()
    except (SchemaError, ValidationError) as error:
        raise ValueError(f"in '{error.json_path}', {error.message[:200]}") from None
    except (Unresolvable, RecursionError, ArithmeticError, TypeError) as error:
        raise ValueError(f"the sandbox cannot fill it: {error}") from None


def _value(schema: Schema | bool, at: _At) -> JSON:
    if not isinstance(schema, dict):
        return _string({}, at)
    if ref := schema.get("$ref"):
        return _value(_with(schema, at.resolver.lookup(ref).contents), at)
    if branches := schema.get("allOf") or schema.get("anyOf") or schema.get("oneOf"):
        return _value(_with(schema, branches[-1 if at.deep else 0]), at)
    if "const" in schema:
        return schema["const"]
    return _label(schema["enum"], at) if "enum" in schema else _WRITERS[_kind(schema)](schema, at)


def _with(schema: Schema, branch: Schema | bool) -> Schema:
    plain = {key: value for key, value in schema.items() if key not in {"$ref", "allOf", "anyOf", "oneOf"}}
    return plain | (branch if isinstance(branch, dict) else {})


def _kind(schema: Schema) -> str:
    kinds = schema.get(
        "type",
        "object" if "properties" in schema else "array" if schema.keys() & {"items", "prefixItems"} else "string",
    )
    return kinds if isinstance(kinds, str) else next((kind for kind in kinds if kind != "null"), "null")


def _label(options: list[JSON], at: _At) -> JSON:
    hits = [len(_cue(option).findall(at.text)) if option and isinstance(option, str) else 0 for option in options]
    best = [option for option, count in zip(options, hits, strict=True) if count == max(hits)]
    if max(hits):
        return "mixed" if len(best) > 1 and "mixed" in options else best[0]
    calm = [option for option in options if option in ("neutral", "other")]
    rest = calm or [option for option in options if option is not None] or options
    return rest[at.seed % len(rest)]


def _object(schema: Schema, at: _At) -> JSON:
    properties, required = schema.get("properties", {}), schema.get("required", [])
    names = dict.fromkeys(required) if at.deep else properties | dict.fromkeys(required)
    return {name: _value(properties.get(name, True), at._replace(path=(*at.path, name))) for name in names}


def _array(schema: Schema, at: _At) -> JSON:
    """Makes items from the sentences in turn: one, or all of a tuple, but when nested deeply as few as allowed."""
    first, rest = schema.get("prefixItems", []), schema.get("items", True)
    least, sentences = int(schema.get("minItems", 0)), _sentences(at.text)
    usual = 0 if at.deep else len(first) or 1
    count = min(max(least, usual), int(schema.get("maxItems", _MOST)), _MOST)
    return [
        _value(
            first[place] if place < len(first) else rest,
            at._replace(path=(*at.path, str(place) if place < len(first) else "items"), text=text),
        )
        for place, text in zip(range(count), cycle(sentences), strict=False)
    ]


def _string(schema: Schema, at: _At) -> JSON:
    day = date.fromordinal(738_000 + at.seed % 1000)
    formats = {
        "date": f"{day}",
        "date-time": f"{day}T12:00:00Z",
        "email": f"reader{at.seed % 1000}@example.com",
        "uuid": str(uuid.uuid5(uuid.NAMESPACE_OID, str(at.seed))),
    }
    text = formats.get(schema.get("format", ""), first_words(_sentences(at.text)[0], 12))
    return text[: int(schema.get("maxLength", _MOST))].ljust(min(int(schema.get("minLength", 0)), _MOST), ".")


def _number(schema: Schema, at: _At) -> JSON:
    """Returns a multiple of `multipleOf`, by default of 1 for integers and of a hundredth of the range for others."""

    def exact(*keys: str) -> list[Fraction]:
        return [Fraction(str(schema[key])) for key in keys if key in schema]

    lows, highs = exact("minimum", "exclusiveMinimum"), exact("maximum", "exclusiveMaximum")
    edges, divisor = exact("exclusiveMinimum", "exclusiveMaximum"), schema.get("multipleOf")
    step = Fraction(str(divisor or 1))
    low = max(lows) if lows else Fraction(0) if not highs or min(highs) > 0 else min(highs) - 100 * step
    high = min(highs) if highs else low + 100 * step
    plain: Callable[[Fraction], float] = float
    if _kind(schema) == "integer":
        plain, step = int, Fraction(step.numerator)
    elif divisor is None:
        step = (high - low) / 100 or low or step
    first = math.ceil(low / step)
    count = max(math.floor(high / step) - first + 1, 1)
    made = [step * (first + (at.seed + turn) % count) for turn in range(min(count, 100))]
    # A multiple of a float has to pass the division by which validators test it: 0.3 / 0.1 does not.
    fitting = [n for n in made if n not in edges and (type(divisor) is not float or (plain(n) / divisor).is_integer())]
    return plain((fitting or made)[0])


_WRITERS: Final[dict[str, Callable[[Schema, _At], JSON]]] = {
    "object": _object,
    "array": _array,
    "string": _string,
    "integer": _number,
    "number": _number,
    "boolean": lambda _, at: at.seed % 2 == 0,
    "null": lambda *_: None,
}
