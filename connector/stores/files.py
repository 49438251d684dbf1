"""Files of any format in `formats`, read as one table and written as one.

An input is read once, into a private copy on disk, so types take all of its rows into account, and a file that changes
meanwhile cannot mix rows up. An output takes its rows in any order and has them in the order of the input. Columnar
formats keep their copy in DuckDB: columns go from there straight to a columnar output, so they keep their types, and
from CSV to CSV their text. JSON lines need no DuckDB.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from stat import S_ISREG
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic.json_schema import SkipJsonSchema

from connector.base.errors import ConfigError
from connector.base.masking import without_passwords
from connector.base.records import OnBadInput, Schema, kept_as
from connector.base.streams import Target
from connector.base.suggestions import did_you_mean, file_meant
from connector.stores import Sink, Source, columnar, is_dead_letter
from connector.stores.formats import File, FileInput, FileOutput, formats, is_read_by, unreadable
from connector.stores.staging.compression import BROKEN, COMPRESSIONS, UNCOMPRESSED
from connector.stores.staging.encodings import is_encoding, marked, recoded
from connector.stores.staging.private_directory import private_directory

AUTO: Final = "auto"
"""The choice of a format by the file's extension."""

_HEAD: Final = 8
_OTHERWISE: Final = ", or give --input-format (`format` in the config)"
_SHEETS: Final = (".xlsx", ".xls", ".xlsm", ".xlsb", ".ods", ".numbers")
_SIGNATURES: Final = {
    b"PK\x03\x04": 'an Excel workbook or a ZIP file, not text: save it as "CSV UTF-8", or unpack it',
    b"\xd0\xcf\x11\xe0": 'an old Excel workbook, not text: save it as "CSV UTF-8"',
    **{each.magic: f"compressed with {each.name}: rename it to end in {each.suffix}" for each in COMPRESSIONS},
    b"PAR1": "a Parquet file: rename it to end in .parquet, or give --input-format",
    b"%PDF": "a PDF, not a table: copy its table into a CSV file",
    b"SQLite f": "a SQLite database, not a file of rows: read it with the store sql",
}
"""What a file is that is named like a text file but begins like this."""

CHOICES: Final = (AUTO, *formats())
"""What `format` can be."""


def is_format(value: str) -> str:
    """Returns the name of a format. Raises `ValueError` if there is no such format."""
    if value not in CHOICES:
        meant = did_you_mean(value, CHOICES)
        raise ValueError(f"is not a format: choose one of {', '.join(CHOICES)}{meant and f'; {meant}'}")
    return value


def _is_path(value: str) -> str:
    if "\0" in value:
        raise ValueError("holds a NUL character: remove it")
    return value


def is_delimiter(value: str) -> str:
    """Returns the delimiter that `value` stands for. Raises `ValueError` if it is not one."""
    mark = "\t" if value.lower() in ("tab", "\\t") else value
    if len(mark) > 1 or mark in ('"', "\r", "\n", "\0") or not mark.isascii():
        raise ValueError('is not a delimiter: write one character such as ";", or "tab"')
    return mark


def _folder_of(path: str) -> Path:
    parent = Path(path).parent
    return next((each for each in (parent, *parent.parents) if not glob.has_magic(str(each))), parent)


def _or(words: Sequence[str]) -> str:
    return f"{', '.join(words[:-1])} or {words[-1]}"


def _extensions() -> list[str]:
    return [extension for each in formats().values() for extension in each.extensions]


class Options(BaseModel):
    """Files on this machine."""

    model_config = ConfigDict(frozen=True, extra="forbid", title="Files")

    type: Literal["files"] = Field(default="files", title="Type")
    path: Annotated[str, AfterValidator(_is_path)] = Field(
        min_length=1,
        title="Path",
        description="A file, or a glob like reviews/*.parquet: the files are one table, in the order of their names.",
        examples=["reviews.csv", "reviews/*.parquet"],
    )
    format: Annotated[str, AfterValidator(is_format)] = Field(
        default=AUTO,
        title="Format",
        description=f"The format of the files. `{AUTO}` goes by their extensions: {_or(_extensions())}, "
        f"and {_or([each.suffix for each in COMPRESSIONS])} after them.",
        json_schema_extra={"enum": list(CHOICES)},
    )
    name: str = Field(
        default="",
        title="Stream name",
        description="The name of the stream. Default: the name of the file.",
        json_schema_extra={"side": "input"},
    )

    @property
    def folder(self) -> Path | None:
        """The folder of the files, for a glob that before its first wildcard; `None` if there are several."""
        folders = {_folder_of(path) for path in (self.path, *self.more)}
        return folders.pop() if len(folders) == 1 else None

    delimiter: Annotated[str, AfterValidator(is_delimiter)] = Field(
        default="",
        title="CSV delimiter",
        description="The separator of CSV files: one character, or `tab`. Default: the one that fits all rows.",
        examples=[";"],
    )
    encoding: Annotated[str, AfterValidator(is_encoding)] = Field(
        default="",
        title="Encoding",
        description="The encoding of text files, such as `cp1252` or `latin-1` for files of old Windows programs. "
        "Default: UTF-8, or what the file's byte order mark says.",
        examples=["latin-1"],
        json_schema_extra={"side": "input"},
    )
    on_bad_input: SkipJsonSchema[OnBadInput] = "fail"  # the config has it for every input
    keep_llm_as: SkipJsonSchema[str] = ""  # the config has it for every input
    more: SkipJsonSchema[tuple[str, ...]] = ()
    """Further paths and globs from the command line, whose files follow those of `path`. A config uses a glob."""
    csv_safe: bool = Field(
        default=False,
        title="Safe CSV",
        description="Put a single quote before each cell of a CSV or TSV file that a spreadsheet would take for a "
        "formula. It is part of the text for everyone else who reads the file.",
        json_schema_extra={"side": "output"},
    )
    permissions: str = Field(
        default="600",
        pattern=r"^0?[67][0-7]{2}$",
        title="Permissions",
        description="Who may read and write the file, as chmod takes it in octal digits: 600 is its owner alone, 640 "
        "its group may read it, 644 everybody may.",
        examples=["640"],
        json_schema_extra={
            "side": "output",
            "pattern_descriptor": "three octal digits, such as 640, that let its owner read and write",
        },
    )

    @property
    def mode(self) -> int:
        """The permissions as bits."""
        return int(self.permissions, 8)


@contextmanager
def source(options: Options, *, limit: int | None = None, cursor_field: str | None = None) -> Iterator[Source]:
    """Opens files for reading, see `Store.source`. With a `limit`, types take only these rows into account."""
    paths = (options.path, *options.more)
    with without_passwords(paths), _source(options, paths, limit, cursor_field) as opened:
        yield opened


@contextmanager
def _source(options: Options, paths: Sequence[str], limit: int | None, cursor_field: str | None) -> Iterator[Source]:
    files = [
        _as_utf8(file, options.encoding)._replace(delimiter=options.delimiter, on_bad_input=options.on_bad_input)
        for file in find(paths, options.format)
    ]
    name = options.name or stem(options.path)
    with private_directory() as directory:
        given = FileInput(name, files, directory, limit, cursor_field, partial(_read_as, options.keep_llm_as))
        with files[0].format.source(given) as opened:
            yield opened


@contextmanager
def sink(
    options: Options, added: Mapping[str, Schema], *, source: Source | None = None, target: Target | None = None
) -> Iterator[Sink]:
    """Opens a file for writing, see `Store.sink`. It appears in its place at `commit`."""
    if options.encoding:
        raise ConfigError(f"{options.path}: an output is always UTF-8: leave out its encoding")
    with without_passwords([options.path]):
        place = _place(options, source)
    with private_directory(place.path.parent) as directory:
        adds = target is not None and target.mode != "overwrite"
        file = place._replace(path=directory / place.path.name) if adds else place
        with place.format.sink(
            FileOutput(file, directory, place.path, options.csv_safe, options.mode), added, source
        ) as rows:
            if target and adds:
                yield columnar.load("merge").Addition(rows, file, place, target.primary_key, options.mode)
            else:
                yield rows


def _read_as(prefix: str, column: str) -> str | None:
    """See `FileInput.read_as`."""
    return None if is_dead_letter(column) else kept_as(column, prefix)


def recognise(path: Path, chosen: str = AUTO, otherwise: str = "") -> File:
    """Returns a file with its compression and its format, by its extensions; `chosen` names another format.

    `otherwise` is further advice for the error.

    Raises:
        ConfigError: The extension is unknown, or the format cannot be compressed.
    """
    *suffixes, last = ["", *(suffix.lower() for suffix in path.suffixes)]
    compression = next((each for each in COMPRESSIONS if each.suffix == last), UNCOMPRESSED)
    if compression is not UNCOMPRESSED and suffixes:
        last = suffixes[-1]
    known = formats()
    named = next((each for each in known.values() if last in each.extensions), None)
    format_ = named if chosen == AUTO else known[chosen]
    if format_ is None:
        why = "the format cannot be told from the name"
        change = f"use a known extension ({_known()}){otherwise}"
        if last in _SHEETS:
            why = "spreadsheets cannot be read or written"
            change = 'name a CSV file, which spreadsheet programs open, and save as "CSV UTF-8"'
        raise ConfigError(f"{path}: {why}: {change}")
    if not format_.is_compressible and compression is not UNCOMPRESSED:
        raise ConfigError(f'{path}: {format_.name} is compressed inside: leave out the "{path.suffix}"')
    return File(path, format_, compression)


def find(paths: Sequence[str], chosen: str = AUTO) -> list[File]:
    """Returns the files that paths and globs match, those of a glob sorted, each file once.

    Raises:
        ConfigError: One matches no file, or one that cannot be read; or the files differ in their format.
    """
    if len(paths) > 1 and not os.path.lexists(paths[0]) and os.path.isfile(spaced := " ".join(paths)):  # noqa: PTH113 - as in `_matching`
        raise ConfigError(f'{paths[0]}: there is no such file: put quotes around a name with spaces: "{spaced}"')
    files = list({file.path: file for path in paths for file in _matching(path, chosen)}.values())
    if len(found := sorted({file.format.reads_as for file in files})) > 1:
        raise ConfigError(
            f"{', '.join(paths)}: these are files of several formats ({', '.join(found)}): give those of one format"
        )
    return files


def _matching(path: str, chosen: str) -> list[File]:
    wanted = os.path.expanduser(path)  # noqa: PTH111 - a glob is not a path
    names = [wanted] if os.path.lexists(wanted) else sorted(glob.glob(wanted, recursive=True))  # noqa: PTH207 - as above
    found = [Path(name) for name in names if name == wanted or not Path(name).is_dir()]
    files = [recognise(_readable(each), chosen, _OTHERWISE) for each in found]
    if not files:
        what = "no file matches it" if glob.has_magic(wanted) else "there is no such file"
        meant = file_meant(wanted) or "check the path; only files on this machine can be read"
        raise ConfigError(f"{path}: {what}: {meant}")
    return files


def _as_utf8(file: File, encoding: str) -> File:
    """Returns a file whose text is decoded to UTF-8 when it is read; a binary format unchanged.

    Raises:
        ConfigError: It is not text, cannot be read, or takes no `encoding`.
    """
    if not file.format.is_compressible:  # as all formats of text are
        if encoding:
            raise ConfigError(f"{file.path}: {file.format.name} has no encoding: leave out the encoding")
        return file
    if file.compression.is_text:
        if encoding:
            raise ConfigError(f"{file.path}: it is read as UTF-8: decompress it first, to read it in another encoding")
        return file
    try:
        with file.compression.open(file.path) as stream:
            head = stream.read(_HEAD)
    except BROKEN as error:
        raise unreadable([file], error) from error
    for signature, what in _SIGNATURES.items():
        if head.startswith(signature):
            raise ConfigError(f"{file.path}: this is {what}")
    return file._replace(compression=recoded(file.compression, encoding or marked(head)))


def stem(path: str) -> str:
    """Returns a name for the data: the file's without extensions, or the folder's if the file is all wildcards."""
    for part in reversed(Path(path).parts):
        name = "".join(letter for letter in part.split(".")[0] if letter not in "*?[]").strip("-_ ")
        if name and name != os.sep:
            return name
    return "records"


def _known() -> str:
    """Returns the known extensions, in words."""
    inside = ", ".join(each.name for each in formats().values() if not each.is_compressible)
    return f"{', '.join(_extensions())}; all but {inside} also with {_or([each.suffix for each in COMPRESSIONS])}"


def _readable(path: Path) -> Path:
    try:
        if not S_ISREG(path.stat().st_mode):
            raise ConfigError(f'{path}: this is not a file: name a file, or a glob such as "{path / "*.csv"}"')
        with path.open("rb"):
            return path
    except OSError as error:
        raise ConfigError(
            f"{path}: it cannot be read ({error.strerror}): check the path and its permissions", detail=str(error)
        ) from error


def _place(options: Options, source: Source | None) -> File:
    """Returns the file to write, after checks that it can be written.

    Raises:
        ConfigError: It cannot be written.
    """
    try:
        return _writable(options, source)
    except (OSError, RuntimeError, ValueError) as error:  # a name that is too long, an unknown home
        raise ConfigError(f"{options.path}: it cannot be written ({error}): name another file") from error


def _writable(options: Options, source: Source | None) -> File:
    path = Path(os.path.realpath(os.path.expanduser(options.path)))  # noqa: PTH111 - Path raises where there is no home
    if path.is_dir():
        raise ConfigError(f"{options.path}: this is a folder: name the file to write")
    place = recognise(path, options.format)._replace(delimiter=options.delimiter)
    if place.path.exists() and not place.path.is_file():
        raise ConfigError(f"{options.path}: this is not a file: name the file to write")
    if not place.path.parent.is_dir():
        raise ConfigError(f"{options.path}: the folder {place.path.parent} does not exist: create it first")
    if is_read_by(place.path, source):
        raise ConfigError(f"{options.path}: this file is among the inputs: write to another one")
    return place
