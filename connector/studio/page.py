"""The studio's page: shows a session and passes on the user's actions. Rows and replies are shown as plain text."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib.resources import files
from itertools import islice
from typing import Any, Final

from nicegui import run, ui
from nicegui.elements.mixins.text_element import TextElement

from connector.base.amounts import counted, dollars
from connector.base.errors import ConfigError, ConnectorError, Problem
from connector.base.excerpts import without_files
from connector.base.records import Outcome, Record
from connector.base.terminal import printable
from connector.evaluate import words
from connector.evaluate.figures import Confusion, Evaluation, Standing
from connector.report.html import COLOURS, ms
from connector.run.forecast import Forecast
from connector.studio.draft import TYPES, Draft, OutputColumn, placed
from connector.studio.session import MOST_VARIANTS, Session
from connector.studio.table import shown

STYLE: Final = COLOURS + files(__package__).joinpath("page.css").read_text(encoding="utf-8")
STEPS: Final = ("Table", "Prompt", "Try", "Compare", "Run")
_ROWS: Final = 25  # of the table on a page
_SHOWN: Final = 100  # rows of a comparison
_CELL: Final = 400  # characters of a cell
_TEXT: Final = 20_000  # characters of any other text: megabytes of it freeze a browser
_PAIRS: Final = 100  # columns shown of a single row, one below the other
_COLUMNS: Final = 40  # columns shown of the table
_HEADER: Final = """<q-th :props="props"><span class="named">{{ props.col.label }}</span>
<span class="kind">{{ props.col.kind }}</span></q-th>"""
_MODELS: Final = 300  # models listed of an endpoint
_PICK: Final = """<q-td :props="props"><button type="button" class="pick" :aria-label="'Request of row ' + props.value"
@click.stop="$parent.$emit('pick', props.row.place)">{{ props.value }}</button></q-td>"""
_TYPED: Final = 0.5  # seconds: longer than the debounce of any field
_EVERY: Final = 0.3  # seconds between updates of a job's progress


def _beginning(text: str) -> str:
    """Returns a text as the page shows it: only the beginning if it is too long."""
    more = len(text) - _TEXT
    return printable(text) if more <= 0 else f"{printable(text[:_TEXT])}… ({counted(more, 'more character')})"


def _cell_text(text: str) -> str:
    """Returns a text as a cell shows it."""
    return printable(text) if len(text) <= _CELL else f"{printable(text[: _CELL - 1])}…"


class Tag(TextElement):
    """An HTML element whose content is plain text."""

    def __init__(self, tag: str, text: object = "", classes: str = "") -> None:
        super().__init__(tag=tag, text=_beginning(str(text)))
        if classes:
            self.classes(classes)


def _button(text: str = "", **settings: Any) -> ui.button:
    """Returns a button in the colours of the style sheet."""
    return ui.button(text, color=None, **settings).props("unelevated").classes("b")


def box(classes: str = "", tag: str = "div") -> ui.element:
    """Returns an element to put others into."""
    return ui.element(tag).classes(classes)


class Page:
    """What one browser tab shows.

    Args:
        session: The session, which all tabs share.
    """

    def __init__(self, session: Session) -> None:
        self.session = session
        self.draft = session.drafts[0]
        self.place = 0
        self.query = ""
        self.rows = 20
        self.seed = 0
        self.chosen: list[Record] = []
        self.output = "out.csv"
        self.report = ""
        self.saved = ""
        self.max_cost: float | None = None
        self._confirmed = ""
        self._seen: tuple[object, ...] = ()
        self._is_filling = False
        self._fields: dict[str, Any] = {}
        self._problems: list[Problem] = []

    # --- The frame ----------------------------------------------------------------------------------------------------

    def build(self) -> None:
        """Makes the page."""
        ui.add_css(STYLE)
        ui.colors(primary="#2f6fd0", positive="#1f7a4d", negative="#c2333f")
        with box("bar", "header"), box():
            with box("flow"):
                Tag("span", "S", "mark").props("aria-hidden=true")
                Tag("h1", "Studio")
                table = self.session.table
                kept = f" (a sample of {len(table.records):,})" if table.is_sample else ""
                Tag("span", f"{', '.join(self.session.inputs)} · {counted(table.rows, 'row')}{kept}", "muted small")
                box("grow")
                self.variants()
            with ui.tabs().props("dense no-caps inline-label align=left aria-label=Steps") as self.tabs:
                for number, step in enumerate(STEPS, 1):
                    ui.tab(step, label=f"{number}  {step}")
        shows: tuple[Callable[[], object], ...] = (
            self._table,
            self._prompt,
            self._try_step,
            self.comparing,
            self.running,
        )
        with box("studio"):
            self._working()
            with ui.tab_panels(self.tabs, animated=False, value="Table").props("keep-alive") as self.panels:
                for step, show in zip(STEPS, shows, strict=True):
                    with ui.tab_panel(step):
                        show()
        ui.keyboard(on_key=self._key, ignore=[])
        ui.timer(_EVERY, self._look)

    def _key(self, event: Any) -> None:
        if event.action.keydown and event.key == "Enter" and (event.modifiers.ctrl or event.modifiers.meta):
            ui.timer(_TYPED, self._try_now, once=True)  # the last input may still be on its way

    def _try_now(self) -> None:
        self._go("Try")
        self._try([self.draft])

    def _go(self, step: str) -> None:
        self.tabs.set_value(step)

    @ui.refreshable_method
    def variants(self) -> None:
        """Shows the variants, with controls to choose, add or remove one."""
        with box("flow").props('role=group aria-label="Variants"'):
            for draft in self.session.drafts:
                name = f"{draft.name} {draft.title}".strip()
                is_on = draft is self.draft
                _pick(
                    name,
                    partial(self._choose, draft),
                    is_on=is_on,
                    label=f"Variant {name}",
                    key=f"variant-{draft.name}",
                )
            if len(self.session.drafts) < MOST_VARIANTS:
                _button("Add variant", on_click=self._add).props("flat dense size=sm")
            if len(self.session.drafts) > 1:
                _button("Remove", on_click=self._remove).props(
                    f'flat dense size=sm aria-label="Remove variant {self.draft.name}"'
                )

    def _choose(self, draft: Draft) -> None:
        self.draft = draft
        self.variants.refresh()
        self._fill()
        self._refresh()
        _focus(f"variant-{draft.name}")

    def _add(self) -> None:
        draft = self.session.add(self.draft)
        if draft is not None:
            self._choose(draft)
            self._go("Prompt")

    def _remove(self) -> None:
        self.session.remove(self.draft)
        self._choose(self.session.drafts[0])

    def _refresh(self) -> None:
        self.request.refresh()
        self.before.refresh()
        self.trying.refresh()
        self.inserts.refresh()
        self.comparing.refresh()
        self.running.refresh()

    def _working(self) -> None:
        """Makes the panel of the job; `_look` updates it in place, so that no button moves under a cursor."""
        with box("panel").props("role=status aria-live=polite") as self._job:
            with box("card stack tight") as self._going, box("flow"):
                self._title = Tag("h2")
                self._told = Tag("span", "", "muted num grow")
                self._pausing = _button("Pause", on_click=self._pause).props("outline dense size=sm")
                self._stopping = _button("Stop", on_click=self._stop).props("outline dense size=sm").classes("danger")
            with self._going:
                self._bar = ui.linear_progress(0, show_value=False, size="6px").props('aria-label="Rows done"')
            self._ended = Tag("div", "", "note")
        self._job.set_visibility(False)

    def _pause(self) -> None:
        job = self.session.job
        if job is not None:
            (job.go_on if job.state == "paused" else job.pause)()
        self._look()

    def _stop(self) -> None:
        if self.session.job is not None:
            self.session.job.end()
        self._look()

    def _look(self) -> None:
        """Shows the progress of the job, and its result once it ends."""
        job = self.session.job
        if job is None or self._seen == (job, True):
            return
        state, is_over = job.state, job.is_over
        self._job.set_visibility(not is_over or bool(job.error))
        self._going.set_visibility(not is_over)
        self._ended.set_visibility(is_over)
        self._title.set_text(job.title if state == "running" else f"{job.title}: {state}")
        self._told.set_text(printable(self.session.mask(job.told())))
        self._bar.set_value(round(job.done / job.rows, 3) if job.rows else 0)
        self._pausing.set_text("Go on" if state == "paused" else "Pause")
        self._pausing.set_visibility(job.title == "Running" and state in ("running", "paused"))
        self._stopping.set_visibility(state in ("running", "paused"))
        self._ended.set_text(printable(self.session.mask(job.error)))
        self._ended.classes(add="bad" if state == "failed" else "plain", remove="plain" if state == "failed" else "bad")
        if is_over or self._seen[:1] != (job,):
            self._seen = (job, is_over)
            if is_over and job.title == "Trying" and self.session.tried:
                self._guarded(self.session.compare)
            self._refresh()

    def _guarded(self, work: Callable[[], Any]) -> Any:
        """Calls `work`; shows its error as a message."""
        try:
            return work()
        except (ConnectorError, ValueError, OSError) as error:
            ui.notify(printable(self.session.mask(str(error))), type="negative", multi_line=True, timeout=8000)
            return None

    # --- Table --------------------------------------------------------------------------------------------------------

    def _table(self) -> None:
        with box("stack"):
            with box("flow"):
                search = ui.input(placeholder="Search all columns", on_change=self._search)
                search.props('outlined dense clearable debounce=200 aria-label="Search the table"').classes("grow")
                options = {"": "no column", **{each: printable(each) for each in self.session.table.names}}
                self._truths = ui.select(options, label="Right answers are in", value=self.session.truth or "")
                self._truths.on_value_change(self._truth)
                self._truths.props("outlined dense").style("min-width: 230px")
            with box("flow"):
                self._found = Tag("span", "", "muted small grow").props("role=status")
                _button("Write the prompt", on_click=partial(self._go, "Prompt"))
            columns = [{"name": "row", "label": "row", "field": "row", "kind": "", "align": "right"}]
            columns += [
                {
                    "name": f"c{place}",
                    "label": printable(each.name),
                    "field": f"c{place}",
                    "align": "left",
                    "kind": each.type + (f" · {each.nulls:,} null" if each.nulls else ""),
                }
                for place, each in enumerate(self.session.table.columns[:_COLUMNS])
            ]
            with box("browse"):
                self._browse = ui.table(
                    rows=[],
                    columns=columns,
                    row_key="row",
                    pagination={"rowsPerPage": _ROWS, "page": 1, "rowsNumber": 0},
                )
                self._browse.add_slot("header-cell", _HEADER)
                self._browse.add_slot("body-cell-row", _PICK)
                self._browse.on("pick", lambda event: self._point(int(event.args)))
                self._browse.props('flat dense :rows-per-page-options="[25]"')
                self._browse.on("request", lambda event: self._turn(event.args["pagination"]["page"]))
                self._browse.on("rowClick", lambda event: self._point(event.args[1]["place"]), [[], ["place"], None])
            self._show_rows(self.session.table.found(""), 1)

    async def _search(self, event: Any) -> None:
        self.query = event.value or ""
        await self._turn(1)

    async def _turn(self, page: int) -> None:
        """Searches in a thread, so that a large table blocks nothing else, and shows a page of the result."""
        query = self.query
        found = await run.io_bound(self.session.table.found, query)
        if found is not None and query == self.query:  # something else may be searched for by now
            self._show_rows(found, page)

    def _show_rows(self, found: Sequence[int], page: int) -> None:
        """Shows one page of the rows found. No more than that is sent to the browser."""
        table, first = self.session.table, (page - 1) * _ROWS
        self._browse.rows[:] = [
            {"row": f"{table.records[place].index + 1:,}", "place": place, **_cells(table.records[place], table.names)}
            for place in found[first : first + _ROWS]
        ]
        self._browse.pagination = {"rowsPerPage": _ROWS, "page": page, "rowsNumber": len(found)}
        self._browse.update()
        told = f"{counted(len(found), 'row')}{' found' if self.query else ''} · choose one to see its request"
        self._found.set_text(told)

    def _point(self, place: int) -> None:
        self.place = place
        self.request.refresh()
        self._go("Prompt")

    def _truth(self, event: Any) -> None:
        self.session.truth = event.value or None
        self.session.tried.clear()
        self.session.compared = None
        self.session.choose(self.rows, seed=self.seed, with_truth=True)
        self._fill()
        self._refresh()

    # --- Prompt -------------------------------------------------------------------------------------------------------

    def _prompt(self) -> None:
        with box("two"):
            with box("stack"):
                with box("card stack", "section"):
                    Tag("h2", "Prompt")
                    self._area("system_prompt", "System prompt (optional)", 2)
                    self._area("prompt", "Prompt for each row", 6)
                    self.inserts()
                with box("card stack", "section"):
                    Tag("h2", "What to get back")
                    self.outputs()
                with box("card stack", "section"):
                    Tag("h2", "Model")
                    with box("flow top line"):
                        self._line("model", "Model").classes("wide", remove="field")
                        with _button(icon="expand_more", on_click=self._list_models).props(
                            'flat dense round aria-label="List the models of the endpoint"'
                        ):
                            self._models = ui.menu().props("no-parent-event")
                        self._number("temperature", "Temperature")
                        self._number("max_tokens", "Max tokens")
                    self._line("url", "Endpoint URL")
                    Tag("p", "The key comes from the config or the environment. It is never shown here.", "muted small")
            with box("stack", "section"):
                self._request()
                with ui.expansion("Config as JSON").classes("card").props("dense"):
                    self._json = ui.textarea(on_change=self._json_changed)
                    self._json.props(
                        'outlined debounce=400 input-style="min-height: 300px" aria-label="Config as JSON"'
                    )
                    self._json.classes("field mono").props("input-class=mono")
        self._fill()

    async def _list_models(self) -> None:
        """Lists the endpoint's models, which is free, for one to be chosen."""
        try:
            names = await run.io_bound(self.session.models, self.draft)
        except ConnectorError as error:
            ui.notify(printable(self.session.mask(error.message)), type="negative", multi_line=True, timeout=8000)
            return
        self._models.clear()
        with self._models:
            for name in (names or [])[:_MODELS]:
                ui.menu_item(printable(name), partial(self._fields["model"].set_value, name))
        self._models.open()

    def _area(self, name: str, label: str, rows: int) -> None:
        area = ui.textarea(label, on_change=lambda event: self._changed(name, event.value))
        area.props(f'outlined debounce=250 rows={rows} input-class=mono aria-label="{label}"').classes("field")
        self._fields[name] = area

    def _line(self, name: str, label: str) -> Any:
        line = ui.input(label, on_change=lambda event: self._changed(name, event.value))
        line.props(f'outlined dense debounce=300 aria-label="{label}"').classes("field")
        self._fields[name] = line
        return line

    def _number(self, name: str, label: str) -> None:
        number = ui.number(label, min=0, on_change=lambda event: self._parameter(name, event.value))
        number.props(f'outlined dense debounce=300 aria-label="{label}"').classes("small-number")
        self._fields[name] = number

    @ui.refreshable_method
    def inserts(self) -> None:
        """Shows the columns that a prompt may use; a click inserts one."""
        with box("flow").props('role=group aria-label="Columns to insert"').style("gap: 6px"):
            Tag("span", "Insert", "muted small")
            for name in self.session.columns[:_COLUMNS]:
                _pick(name, partial(self._insert, name), label=f"Insert {name}")

    def _insert(self, name: str) -> None:
        field = self._fields["prompt"]
        field.set_value(f"{field.value or ''}{placed(name)}")
        field.run_method("focus")

    @ui.refreshable_method
    def outputs(self) -> None:
        """Shows the columns that the model fills."""
        columns = self.draft.columns
        if columns is None:
            Tag("p", "The config's JSON describes these columns in a way that this form cannot show.", "muted")
            return
        if not columns:
            Tag("p", "No columns yet: the answer is one text, in the column content.", "muted small")
        for place, each in enumerate(columns):
            with box("columns").props("role=group").props(f'aria-label="Column {place + 1}"'):
                name = ui.input(value=each.name, placeholder="name")
                name.props('outlined dense debounce=400 aria-label="Name of the column"')
                name.on_value_change(lambda event, place=place: self._column(place, name=event.value or ""))
                kind = ui.select(list(TYPES), value=each.type).props('outlined dense aria-label="Type of the column"')
                kind.on_value_change(lambda event, place=place: self._column(place, kind=event.value))
                if each.type == "one of":
                    values = ui.input(value=", ".join(each.values), placeholder="good, bad, mixed")
                    values.props('outlined dense debounce=500 aria-label="Allowed values"')
                    values.on_value_change(lambda event, place=place: self._column(place, values=event.value or ""))
                else:
                    box()
                _button(icon="close", on_click=partial(self._drop, place)).props(
                    'flat dense round size=sm aria-label="Remove the column"'
                )
        with box("flow"):
            _button("Add column", icon="add", on_click=self._new_column).props("flat dense size=sm")

    def _column(
        self, place: int, *, name: str | None = None, kind: str | None = None, values: str | None = None
    ) -> None:
        columns = list(self.draft.columns or ())
        if place >= len(columns):
            return
        old = columns[place]
        words_ = old.values if values is None else tuple(filter(None, (each.strip() for each in values.split(","))))
        columns[place] = OutputColumn(old.name if name is None else name.strip(), kind or old.type, words_)
        self.draft.put_columns(columns)
        if kind is not None:
            self.outputs.refresh()
        self._edited()

    def _drop(self, place: int) -> None:
        columns = list(self.draft.columns or ())
        del columns[place]
        self.draft.put_columns(columns)
        self.outputs.refresh()
        self._edited()

    def _new_column(self) -> None:
        columns = list(self.draft.columns or ())
        taken = {each.name for each in columns} | set(self.session.columns)
        name = next(each for each in ("label", *(f"label_{n}" for n in range(2, 99))) if each not in taken)
        self.draft.put_columns([*columns, OutputColumn(name, "one of", ("yes", "no"))])
        self.outputs.refresh()
        self._edited()

    def _changed(self, name: str, value: Any) -> None:
        if self._is_filling:
            return
        if name == "model":
            self.draft.put_model(value or None)
        else:
            self.draft.put(name, value)
        self._edited()

    def _parameter(self, name: str, value: float | None) -> None:
        if self._is_filling:
            return
        number = int(value) if value is not None and name == "max_tokens" else value
        models = {each: self.draft.parameter(each) for each in ("temperature", "max_tokens")} | {name: number}
        self.draft.put("models", None)
        self.draft.put_model(self.draft.get("model"), **models)
        self._edited()

    def _json_changed(self, event: Any) -> None:
        if self._is_filling or (event.value or "") == self.draft.text:
            return
        self.draft.put_text(event.value or "")
        if self.draft.broken is None:
            self._fill(json=False)
        self._edited(json=False)

    def _fill(self, *, json: bool = True) -> None:
        """Fills the fields from the draft."""
        self._is_filling = True
        try:
            for name, field in self._fields.items():
                is_number = name in ("temperature", "max_tokens")
                value = self.draft.parameter(name) if is_number else self.draft.get(name)
                field.set_value(value if is_number or isinstance(value, str) else "")
            if json:
                self._json.set_value(self.draft.text)
            self.outputs.refresh()
        finally:
            self._is_filling = False
        self._tell()

    def _edited(self, *, json: bool = True) -> None:
        """Updates the JSON, the problems, and the request of the row after a change."""
        if json:
            self._is_filling = True
            self._json.set_value(self.draft.text)
            self._is_filling = False
        self._tell()
        self.request.refresh()

    def _tell(self) -> None:
        """Shows each problem at its field."""
        problems = self.session.problems(self.draft)
        self._problems = problems
        for name in ("prompt", "system_prompt", "model", "url"):
            mine = [each.message for each in problems if each.path.partition("[")[0].partition(".")[0] == name]
            _show_error(self._fields[name], self.session.mask("\n".join(mine)))
        broken = [str(each) for each in problems if each.path == "json"]
        _show_error(self._json, "\n".join(broken))

    def _request(self) -> None:
        with box("card stack"):
            with box("flow"):
                Tag("h2", "Request")
                box("grow")
                before, after = (
                    _button(icon=f"chevron_{side}", on_click=partial(self._step, by)).props("flat dense round size=sm")
                    for side, by in (("left", -1), ("right", 1))
                )
                before.props('aria-label="Row before"')
                self._number_shown = Tag("span", "", "num").props("role=status")
                after.props('aria-label="Next row"').move(target_index=-1)
            self.request()
            with box("flow end"):
                _button("Try it  (Ctrl + Enter)", on_click=self._try_now)

    @ui.refreshable_method
    def request(self) -> None:
        """Shows the request of the chosen row, or what is wrong with it."""
        records = self.session.table.records
        if not records:
            Tag("p", "The table has no rows.", "muted")
            return
        record = records[min(self.place, len(records) - 1)]
        self._number_shown.set_text(f"row {record.index + 1:,}")
        rendered = self.session.rendered(self.draft, record)
        taken = self.session.taken(self.draft)
        if taken:
            with box("note bad stack tight").props("role=alert"):
                Tag(
                    "span",
                    f"The table already has a column {taken[0]}. Does it hold the right answers, or is it "
                    "something else?",
                )
                with box("flow"):
                    _button("The right answers", on_click=partial(self._truths.set_value, taken[0])).props(
                        "flat dense size=sm"
                    )
                    _button("Rename the answers", on_click=self._name_apart).props("flat dense size=sm")
        else:
            self._notes([*rendered.problems, *self._problems])
        if rendered.text:
            Tag("pre", rendered.text, "code mono").props('tabindex=0 aria-label="The request of this row"')
        with ui.expansion("The row").props("dense"):
            _pairs(self.session.seen(record).data)

    def _notes(self, problems: Sequence[Problem]) -> None:
        for each in list(dict.fromkeys(problems))[:6]:
            where = {"output_schema": "columns", "response_format": "columns"}.get(each.path, each.path)
            text = f"{where}: {each.message}" if where not in ("", "rows") else each.message
            Tag("div", self.session.mask(text), "note" if where == "rows" else "note bad").props("role=alert")

    def _step(self, by: int) -> None:
        self.place = max(0, min(self.place + by, len(self.session.table.records) - 1))
        self.request.refresh()

    # --- Try ----------------------------------------------------------------------------------------------------------

    def _try_step(self) -> None:
        with box("stack"):
            with box("card stack"):
                with box("flow"):
                    rows = ui.number("Rows", value=self.rows, min=1, max=1000, precision=0)
                    rows.props('outlined dense debounce=300 aria-label="Rows to try"').classes("small-number")
                    rows.on_value_change(lambda event: self._resize(event.value))
                    _button("Other rows", on_click=self._reseed).props("flat dense")
                    box("grow")
                    self._try_one = _button("Try A", on_click=lambda: self._try([self.draft]))
                    self._try_all = _button("Try all variants", on_click=lambda: self._try(self.session.drafts))
                    self._try_all.props("outline")
                self.before()
            self.trying()

    @ui.refreshable_method
    def before(self) -> None:
        """Shows how many calls a try would make, and what they would cost."""
        self._try_one.set_text(f"Try {self.draft.name}")
        self._try_all.set_visibility(len(self.session.drafts) > 1)
        self._pick_rows()
        with box("stack tight"):
            for draft, found in self.session.estimate(self.session.drafts):
                if isinstance(found, ConfigError):
                    Tag("p", f"{draft.name}: {self.session.mask(found.message)}", "note bad")
                else:
                    Tag("p", self.session.mask(f"{draft.name}, before: {_expected(found)}"), "muted small num")

    def _pick_rows(self) -> None:
        if not self.session.sample or len(self.session.sample) != min(self.rows, len(self.session.table.records)):
            self.session.choose(self.rows, seed=self.seed, with_truth=True)

    def _resize(self, value: float | None) -> None:
        self.rows = int(value or 1)
        self.session.choose(self.rows, seed=self.seed, with_truth=True)
        self.before.refresh()
        self.trying.refresh()
        self.comparing.refresh()

    def _reseed(self) -> None:
        self.seed += 1
        self.session.choose(self.rows, seed=self.seed, with_truth=True)
        self.before.refresh()
        self.trying.refresh()
        self.comparing.refresh()

    def _try(self, drafts: Sequence[Draft]) -> None:
        self._pick_rows()
        self._guarded(lambda: self.session.try_out(drafts))
        self._look()

    @ui.refreshable_method
    def trying(self) -> None:
        """Shows the results of the last try, and what it cost."""
        tried = self.session.tried.get(self.draft.name)
        if tried is None:
            Tag("div", "Nothing has been tried yet with this variant.", "empty card")
            return
        variant, outcomes = tried.variant, self.session.outcomes(self.draft)
        if self.session.is_stale(self.draft):
            Tag("p", "The config has changed since: try it again to see what it does now.", "note")
        with box("flow"):
            after = " · ".join(str(variant.summary).splitlines())
            Tag("span", self.session.mask(f"{self.draft.name}, after: {after}"), "num grow").props("role=status")
            _button("Compare", on_click=partial(self._go, "Compare")).props("outline")
        added = list(variant.plan.columns)
        inputs = _telling(self.session)
        head = ["row", *inputs, *added, "status", "latency", "tokens", "cost"]
        with box("frame").props('tabindex=0 role=region aria-label="What was tried"'), box("grid", "table"):
            _head(head, {"row", "latency", "tokens", "cost"})
            with box("", "tbody"):
                for record in self.session.sample:
                    outcome = outcomes.get(record.index)
                    if outcome is not None:
                        self._result(record, outcome, inputs, added)

    def _result(self, record: Record, outcome: Outcome, inputs: Sequence[str], added: Sequence[str]) -> None:
        known, open_ = outcome.provenance, lambda: self._whole(record, outcome)
        with box("act", "tr").props('tabindex=0 aria-label="Show the whole reply"') as row:
            Tag("td", f"{record.index + 1:,}", "n")
            for name in inputs:
                _cell(shown(record.data.get(name)))
            error = known.error
            if error is not None and added:
                _cell(self.session.mask(error.message)).props(f"colspan={len(added)}")
            else:
                for name in added:
                    _cell(self.session.mask(shown(outcome.columns.get(name))))
            again = f" · asked {known.attempts}×" if known.attempts > 1 else ""
            Tag(
                "td",
                f"{outcome.status.value}{again}{' · known' if known.cached else ''}",
                f"dot {outcome.status.value}",
            )
            Tag("td", ms(known.latency_ms), "n")
            Tag(
                "td",
                "n/a" if known.input_tokens is None else f"{known.input_tokens:,} / {known.output_tokens or 0:,}",
                "n",
            )
            Tag("td", "n/a" if known.cost_usd is None else dollars(known.cost_usd), "n")
        row.on("click", open_)
        row.on("keydown.enter", open_)

    def _whole(self, record: Record, outcome: Outcome) -> None:
        """Shows a row, its request and its whole reply."""
        text = self._guarded(lambda: self.session.reply(self.draft, outcome))
        with ui.dialog() as dialog, box("card stack"):
            with box("flow"):
                Tag("h2", f"Row {record.index + 1:,}")
                box("grow")
                _button(icon="close", on_click=dialog.close).props("flat dense round aria-label=Close")
            _pairs(record.data)
            if outcome.provenance.error is not None:
                Tag("p", self.session.mask(outcome.provenance.error.message), "note bad")
            Tag("h3", "Reply")
            Tag("pre", text or "no reply", "code mono")
            Tag("h3", "Request")
            Tag("pre", self.session.rendered(self.draft, record).text, "code mono")
        dialog.open()

    # --- Compare ------------------------------------------------------------------------------------------------------

    @ui.refreshable_method
    def comparing(self) -> None:
        """Shows which variant is better and by how much, and the rows on which they differ."""
        found = self.session.compared
        with box("stack loose"):
            self._ways()
            if found is None:
                Tag("div", "Try one or more variants first: their answers are compared here.", "empty card")
                return
            for each in found.comparisons:
                Tag("p", words.verdict(each), f"verdict {each.verdict}").props("role=status")
            self._figures(found)
            for variant in found.variants:
                for score in variant.scores:
                    if score.confusion is not None:
                        with box("two tables"):
                            _labels(f"{variant.name}: {score.target}", score.labels)
                            _confusion(f"{variant.name}: truth (down) by answer (across)", score.confusion)
            self._compared_rows(found)

    def _ways(self) -> None:
        with box("flow"):
            if len(self.session.drafts) > 1:
                _button("Try all variants", on_click=lambda: self._try(self.session.drafts)).props("outline")
            else:
                _button("Add variant", on_click=self._add).props("outline")
            if self.session.truth is not None:
                Tag("span", f"compared with the column {self.session.truth}", "muted grow")
            else:
                kept = f"No column has the right answers: label rows below (saved in {self.session.labels.path.name}), "
                Tag("span", f"{kept}name one in step 1, or ask a judge.", "muted grow")
            _button(f"Save and run {self.draft.name}", on_click=partial(self._go, "Run"))
        if self.session.truth is None and len(self.session.drafts) > 1:
            with ui.expansion("Ask a judge").props("dense").classes("card"), box("stack"):
                self._bound(ui.input("Model of the judge", value=self.session.judge_model), "judge_model")
                self._bound(ui.textarea("Prompt of the judge", value=self.session.judge_prompt), "judge_prompt")
                _button("Judge A and B", on_click=lambda: self._guarded(self.session.judge)).classes("own")

    def _bound(self, field: Any, name: str) -> None:
        field.props("outlined dense input-class=mono autogrow").classes("field")
        field.on_value_change(lambda event: setattr(self.session, name, event.value or ""))

    def _figures(self, found: Evaluation) -> None:
        with box("frame"), box("grid", "table"):
            Tag("caption", f"{counted(found.compared, 'row')} by each variant. In brackets: the 95 % interval.")
            _head(["", *(_named(each) for each in found.variants)])
            with box("", "tbody"):
                for name, cells in words.figures_of(found):
                    with box("", "tr"):
                        Tag("th", name).props("scope=row")
                        for cell in cells:
                            Tag("td", cell)

    def _compared_rows(self, found: Evaluation) -> None:
        records = {each.index + 1: each for each in self.session.sample}
        inputs, column = _telling(self.session), self.session.label_column()
        can_label = self.session.truth is None and column is not None
        names = [each.name for each in found.variants]
        with box("frame").props('tabindex=0 role=region aria-label="Rows, disagreements first"'), box("grid", "table"):
            Tag("caption", "Rows, disagreements first")
            is_judged = any(row.verdict for row in self.session.rows)
            last = ["judge"] if is_judged else []
            _head(["row", *inputs, "truth" if self.session.truth else "label", *names, *last], {"row"})
            with box("", "tbody"):
                for row in self.session.rows[:_SHOWN]:
                    record = records[row.number]
                    with box("", "tr"):
                        Tag("td", f"{row.number:,}", "n")
                        for name in inputs:
                            _cell(shown(record.data.get(name)))
                        if can_label:
                            self._label(
                                record, column or "", [row.answers[name].columns.get(column or "") for name in names]
                            )
                        else:
                            _cell(words.cells(row.truth) if row.truth else "")
                        for name in names:
                            answer = row.answers[name]
                            text = answer.error or words.cells(answer.columns)
                            right = {True: "yes", False: "no", None: ""}[answer.is_right]
                            differs = " differs" if row.rank < 2 else ""  # noqa: PLR2004 - the ranks of rows that differ
                            _cell(self.session.mask(text), f"cell{differs}", right)
                        if is_judged:
                            _cell(self.session.mask(f"{row.verdict or 'n/a'}{row.reason and f': {row.reason}'}"))

    def _label(self, record: Record, column: str, answers: Sequence[Any]) -> None:
        """Shows buttons to label a row with one of the allowed values or one of the answers."""
        known = self.session.labels.get(record, column)
        choices = self.session.allowed() or list(dict.fromkeys(shown(each) for each in answers if each is not None))
        with (
            box("", "td"),
            box("flow").style("gap: 4px").props(f'role=group aria-label="Label row {record.index + 1}"'),
        ):
            for number, choice in enumerate(choices[:8]):
                is_on = known is not None and shown(known) == choice
                value = None if is_on else choice
                key = f"label-{record.index}-{number}"
                text = choice if len(choice) <= 40 else f"{choice[:39]}…"  # noqa: PLR2004 - the length of a button's text
                _pick(
                    text,
                    partial(self._say, record, value, key),
                    is_on=is_on,
                    label=f"Row {record.index + 1}: {text}",
                    key=key,
                )

    def _say(self, record: Record, value: Any, key: str) -> None:
        self._guarded(lambda: self.session.label(record, value))
        self.comparing.refresh()
        _focus(key)

    # --- Run ----------------------------------------------------------------------------------------------------------

    @ui.refreshable_method
    def running(self) -> None:
        """Saves the config, shows the command, and runs the table."""
        draft = self.draft
        with box("two"):
            with box("card stack"):
                Tag("h2", f"Save variant {draft.name}")
                path = ui.input("Config file", value=self.saved or f"{draft.title or 'config'}.json")
                path.props('outlined dense aria-label="Config file"').classes("field")
                _button("Save", on_click=lambda: self._save(path.value or "")).props("outline").classes("own")
                Tag(
                    "p",
                    "The command line, the platforms and Python accept this file unchanged. The same run as a command:",
                    "muted small",
                )
                command = self.session.command(path.value or "", self.output or "out.csv", self.report)
                Tag("pre", command, "code mono").props('tabindex=0 aria-label="Command line"')
            with box("card stack"):
                Tag("h2", f"Run all {self.session.table.rows:,} rows with {draft.name}")
                clashing = self.session.clashing(draft)
                if clashing:
                    with box("note flow"):
                        Tag("span", f"The table already has a column {', '.join(clashing)}.", "grow")
                        _button("Rename the answers", on_click=self._name_apart).props("flat dense")
                self._text("output", "Output file", self.output)
                self._text("report", "Report, a page at the end (optional)", self.report)
                cost = ui.number("Stop at a cost of USD (optional)", value=self.max_cost, min=0)
                cost.props('outlined dense aria-label="Stop at a cost of USD"').classes("field")
                cost.on_value_change(lambda event: setattr(self, "max_cost", event.value))
                with box("flow"):
                    _button("What will it cost?", on_click=self._estimate).props("outline")
                    _button("Run", on_click=self._start)
                job = self.session.job
                if job is not None and job.title in ("Estimating", "Running") and job.summary and job.is_over:
                    Tag("pre", self.session.mask(job.summary), "code mono").props("role=status")
                    if job.title == "Running" and job.state == "done":
                        Tag("p", f"Written to {self.output}", "note good")
                        if self.report:
                            ui.link("Open the report", "/report", new_tab=True)

    def _name_apart(self) -> None:
        self.draft.name_apart(self.session.table.names)
        self._fill()
        self._refresh()

    def _text(self, name: str, label: str, value: str) -> None:
        field = ui.input(label, value=value).props(f'outlined dense aria-label="{label}"').classes("field")
        field.on_value_change(lambda event: setattr(self, name, event.value or ""))

    def _save(self, path: str) -> None:
        replace = self._confirmed == path
        self._confirmed = path
        if self._guarded(lambda: self.session.save(self.draft, path, replace=replace)) is not None:
            self.saved = path
            ui.notify(f"saved to {path}", type="positive")
            self.variants.refresh()
            self.running.refresh()

    def _estimate(self) -> None:
        self._guarded(lambda: self.session.whole(self.draft))

    def _start(self) -> None:
        draft, output, report = self.draft, self.output, self.report
        self._guarded(lambda: self.session.run(draft, output, max_cost_usd=self.max_cost, report=report))


def _focus(key: str) -> None:
    """Restores the focus after a part of the page was rebuilt."""
    ui.run_javascript(f"setTimeout(() => document.querySelector('[data-key=\"{key}\"]')?.focus(), 50)")


def _expected(found: Forecast) -> str:
    """Returns a forecast in words: calls, cost and tokens."""
    known = f"{found.known:,} known already, " if found.known else ""
    cost = "cost unknown until the first reply" if found.cost_usd is None else f"about {dollars(found.cost_usd)}"
    if found.cost_usd is not None and not found.is_whole:
        cost += " for the requests only"
    tokens = f", {found.input_tokens:,} input tokens" if found.input_tokens else ""
    failing = f"; {counted(found.unsendable, 'row')} cannot be rendered" if found.unsendable else ""
    calls = f"{counted(found.calls, 'call')}, {cost}{tokens}" if found.calls else "nothing to pay"
    return f"{counted(found.rows, 'row')}: {known}{calls}{failing}"


def _pick(text: str, act: Callable[[], Any], *, is_on: bool = False, label: str = "", key: str = "") -> None:
    button = Tag("button", text, f"pick{' on' if is_on else ''}").props("type=button")
    button.props(f"aria-pressed={'true' if is_on else 'false'}")
    if label:
        button._props["aria-label"] = printable(label)  # noqa: SLF001 - `props` would parse a text of the table's
    button.on("click", lambda _: act())
    if key:
        button.props(f"data-key={key}")


def _named(each: Standing) -> str:
    return each.name if each.title in ("", each.name) else f"{each.name} · {each.title}"


def _cell(text: str, classes: str = "cell", mark: str = "") -> ui.element:
    with box(classes, "td") as cell:
        Tag("div", _cell_text(text), mark).props("dir=auto")
    return cell


def _head(names: Sequence[str], numbers: set[str] | frozenset[str] = frozenset()) -> None:
    with box("", "thead"), box("", "tr"):
        for name in names:
            Tag("th", name, "n" if name in numbers else "").props("scope=col")


def _pairs(row: Mapping[str, Any]) -> None:
    with box("pairs", "dl"):
        for name, value in islice(row.items(), _PAIRS):
            Tag("dt", name)
            Tag("dd", shown(without_files(value))).props("dir=auto")
    if len(row) > _PAIRS:
        Tag("p", f"And {counted(len(row) - _PAIRS, 'more column')}.", "muted small")


def _cells(record: Record, names: Sequence[str]) -> dict[str, str]:
    return {f"c{place}": _cell_text(shown(record.data.get(name))) for place, name in enumerate(names[:_COLUMNS])}


def _telling(session: Session) -> list[str]:
    """Returns the two columns of the input by which people recognize a row: those with the longest texts."""
    rows = session.sample[:20]
    lengths = {name: sum(len(shown(each.data.get(name))) for each in rows) for name in session.columns}
    longest = sorted(lengths, key=lambda name: -lengths[name])[:2]
    return [name for name in session.columns if name in longest]


def _show_error(field: Any, text: str) -> None:
    field.props(remove="error error-message")
    if text:
        field._props["error"] = True  # noqa: SLF001 - `props` would parse a text of the table's
        field._props["error-message"] = printable(text)  # noqa: SLF001
    field.update()


def _labels(title: str, labels: Sequence[Any]) -> None:
    with box("frame"), box("grid", "table"):
        Tag("caption", title)
        _head(["label", "rows", "precision", "recall", "F1"], {"rows", "F1"})
        with box("", "tbody"):
            for each in labels:
                with box("", "tr"):
                    Tag("th", each.label).props("scope=row")
                    Tag("td", f"{each.rows:,}", "n")
                    Tag("td", words.percent(each.precision))
                    Tag("td", words.percent(each.recall))
                    Tag("td", "n/a" if each.f1 is None else f"{each.f1:.3f}", "n")


def _confusion(title: str, found: Confusion) -> None:
    with box("frame"), box("grid", "table"):
        Tag("caption", title)
        _head(["truth", *found.answers], frozenset(found.answers))
        with box("", "tbody"):
            for truth, counts in zip(found.truths, found.counts, strict=True):
                with box("", "tr"):
                    Tag("th", truth).props("scope=row")
                    for answer, count in zip(found.answers, counts, strict=True):
                        share = count / (sum(counts) or 1)
                        Tag("td", f"{count:,}", f"n {'hit' if answer == truth else 'miss'}").style(
                            f"--share: {share:.3f}"
                        )
