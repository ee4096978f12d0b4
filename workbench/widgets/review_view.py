"""The review: one person answers questions about records, one record at a time, without any server."""

import os
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from workbench.errors import InputError, StoreError, WorkbenchError, require
from workbench.records import ImagePair, Rating, Record, Verdict, Vote, by_id, one_kind
from workbench.review import _wire, agreement
from workbench.review._wire import Suggestion
from workbench.review.questions import Question, of, shown
from workbench.review.responses import Response, Responses, now
from workbench.review.sampling import Sample

_MOST_CHARACTERS = 100_000  # of a field that are sent to the page
_FOLDED_CHARACTERS, _FOLDED_LINES = 1_200, 14  # of a field that are shown unfolded

_STYLE = """
.sdw-review { color: var(--jp-content-font-color1, CanvasText); font: 14px/1.5 var(--jp-ui-font-family, system-ui, sans-serif);
  border: 1px solid var(--jp-border-color1, #999); border-radius: 6px; padding: 10px 14px; max-width: 960px; margin: 2px; outline: none }
.sdw-review:focus, .sdw-review:focus-within { border-color: #0072B2; box-shadow: 0 0 0 1px #0072B2 }
.sdw-review .soft { opacity: .72; font-size: 12px }
.sdw-review .head, .sdw-review .foot { display: flex; flex-wrap: wrap; gap: 4px 12px; align-items: center }
.sdw-review .bar { flex: 1 1 120px; height: 6px; border-radius: 3px; overflow: hidden; background: var(--jp-border-color2, #9995) }
.sdw-review .bar div { height: 100%; background: #0072B2 }
.sdw-review .badge { border: 1px solid currentColor; border-radius: 3px; padding: 0 6px; font-size: 12px }
.sdw-review .badge:empty { display: none }
.sdw-review .fields { margin: 8px 0; display: grid; gap: 8px }
.sdw-review .fields.two { grid-template-columns: repeat(2, minmax(0, 1fr)) }
.sdw-review .fields.two > .wide { grid-column: 1 / -1 }
.sdw-review .field { min-width: 0 }
.sdw-review .text { white-space: pre-wrap; overflow-wrap: anywhere; border-left: 3px solid var(--jp-border-color1, #999); padding: 0 0 0 10px }
.sdw-review .text.folded { max-height: 15em; overflow: hidden; -webkit-mask-image: linear-gradient(#000 75%, #0000); mask-image: linear-gradient(#000 75%, #0000) }
.sdw-review .field img { max-width: 100%; max-height: 420px; display: block }
.sdw-review .question { padding: 4px 0 4px 10px; border-left: 3px solid transparent }
.sdw-review .question.active { border-left-color: #0072B2 }
.sdw-review button { font: inherit; color: inherit; background: transparent; border: 1px solid var(--jp-border-color1, #999);
  border-radius: 4px; padding: 2px 10px; margin: 2px 4px 2px 0; cursor: pointer }
.sdw-review button:hover { border-color: #0072B2 }
.sdw-review button:focus-visible, .sdw-review textarea:focus-visible { outline: 2px solid #0072B2; outline-offset: 1px }
.sdw-review button[aria-pressed=true], .sdw-review button.main { background: #0072B2; border-color: #0072B2; color: white }
.sdw-review button.suggested { border-style: dashed; border-color: currentColor; border-width: 2px }
.sdw-review button.more { border: 0; padding: 0; text-decoration: underline; font-size: 12px }
.sdw-review button:disabled { opacity: .45; cursor: default }
.sdw-review kbd { font: 11px var(--jp-code-font-family, monospace); opacity: .72; margin-right: 5px; background: none; border: 0; color: inherit; padding: 0; box-shadow: none }
.sdw-review textarea { display: block; width: 100%; box-sizing: border-box; min-height: 52px; font: inherit; padding: 4px 8px; border-radius: 4px; resize: vertical;
  color: var(--jp-content-font-color1, FieldText); background: var(--jp-cell-editor-background, Field); border: 1px solid var(--jp-border-color1, #999) }
.sdw-review .said { min-height: 1.5em; white-space: pre-wrap; overflow-wrap: anywhere; font-size: 12px }
.sdw-review .said.wrong { border-left: 4px solid #D55E00; padding-left: 8px }
"""

# All texts become text nodes: nothing that a model wrote is ever read as HTML. A message names the record that the person
# saw, since the next one may be on its way already.
_SCRIPT = """
const make = (tag, given = {}, ...children) => {
  const made = Object.assign(document.createElement(tag), given);
  made.append(...children);
  return made;
};
export default { render({ model, el }) {
  const box = make("div", { className: "sdw-review", tabIndex: 0 });
  box.setAttribute("data-lm-suppress-shortcuts", "true");  // JupyterLab's own keys are not meant
  box.setAttribute("role", "group");
  box.setAttribute("aria-label", "Review");
  let active = 0, record = null, waiting = false, pressed = false, late = false, typing = null;
  const open = new Set();
  const say = (verb, more = {}) => {
    if (waiting) return;
    waiting = ["submit", "discard", "undo", "next", "previous"].includes(verb);
    model.send({ do: verb, record: model.get("state").record, ...more });
  };
  const answer = (question, value) => {
    if (waiting) return;
    say("answer", { question: question.name, value });
    question.value = value;  // the next key may come before the kernel's reply
  };
  const pick = (question, option) => {
    const before = Array.isArray(question.value) ? question.value : [];
    if (question.kind === "rating") answer(question, Number(option));
    else if (question.kind === "label") answer(question, option);
    else {
      const left = before.filter(each => each !== option);
      const chosen = left.length < before.length ? left : [...before, option];
      answer(question, chosen.length ? chosen : null);
    }
    const state = model.get("state");
    if (["rating", "label"].includes(question.kind)) {
      const later = state.questions.findIndex((each, at) => at > active && each.kind !== "text" && each.value === null);
      active = later < 0 ? active : later;
    }
    show();
  };
  const is = (question, option) => Array.isArray(question.value) ? question.value.includes(option) : String(question.value) === option;
  const suggests = (question, option) => {
    const value = question.suggestion?.value;
    return value !== undefined && (Array.isArray(value) ? value.includes(option) : String(value) === option);
  };
  const field = (each, at) => {
    const text = make("div", { className: "text" });
    const made = make("div", { className: "field" + (each.wide ? " wide" : "") }, make("div", { className: "soft", textContent: each.name }), text);
    if (each.image) text.append(make("img", { src: each.image, alt: each.name }));
    else if (each.text === null) text.append(make("span", { className: "soft", textContent: "nothing" }));
    else text.append(each.text);
    if (each.folds) {
      const more = make("button", { className: "more", type: "button" });
      const show = () => {
        text.classList.toggle("folded", !open.has(at));
        more.textContent = open.has(at) ? "show less" : `show all ${each.length.toLocaleString("en")} characters`;
      };
      more.addEventListener("click", () => { open.has(at) ? open.delete(at) : open.add(at); show(); });
      show();
      made.append(more);
    }
    return made;
  };
  const asked = (question, at) => {
    const head = make("div", {}, question.title, make("span", { className: "soft", textContent: question.required ? "" : "  may be left open" }));
    const made = make("div", { className: "question" + (at === active ? " active" : "") }, head);
    made.setAttribute("role", "group");
    made.setAttribute("aria-label", question.title);
    if (question.description) made.append(make("div", { className: "soft", textContent: question.description }));
    if (question.kind === "text") {
      const input = make("textarea", { value: question.value ?? "", placeholder: question.suggestion ? String(question.suggestion.value) : "" });
      input.setAttribute("aria-label", question.title);
      input.addEventListener("focus", () => { active = at; });
      const keep = () => {
        clearTimeout(typing);
        const value = input.value.trim() ? input.value : null;
        if (value !== question.value) answer(question, value);
      };
      input.addEventListener("input", () => { clearTimeout(typing); typing = setTimeout(keep, 800); });
      input.addEventListener("change", keep);
      input.addEventListener("blur", () => setTimeout(show));
      made.append(input);
    } else {
      const row = make("div");
      question.options.forEach((option, place) => {
        const rank = question.kind === "ranking" && is(question, option) ? ` (place ${question.value.indexOf(option) + 1})` : "";
        const key = place < 9 && question.kind !== "rating" ? [make("kbd", { textContent: place + 1 })] : [];
        const button = make("button", { type: "button" }, ...key, option + rank);
        button.setAttribute("aria-pressed", is(question, option));
        button.classList.toggle("suggested", suggests(question, option));
        button.addEventListener("click", () => { active = at; pick(question, option); });
        row.append(button);
      });
      made.append(row);
    }
    const by = question.suggestion;
    if (by) made.append(make("div", { className: "soft", textContent: `suggested${by.agent ? " by " + by.agent : ""}: ${Array.isArray(by.value) ? by.value.join(" > ") : by.value}` }));
    return made;
  };
  const said = state => {
    const made = make("div", { className: "said" + (state.wrong ? " wrong" : ""), textContent: state.said });
    made.setAttribute("role", "status");
    return made;
  };
  const show = () => {
    if (pressed) { late = true; return; }  // a button that is replaced under the pointer is not clicked
    const state = model.get("state");
    const focused = box.contains(document.activeElement);
    if (state.record !== record) {
      record = state.record;
      open.clear();
      active = Math.max(0, state.questions.findIndex(each => each.kind !== "text" && each.value === null));
    } else if (focused && document.activeElement.tagName === "TEXTAREA") {
      box.lastChild.replaceWith(said(state));  // the rest would end what is being typed
      return;
    }
    const done = state.count ? 100 * state.done / state.count : 0;
    const bar = make("div", { className: "bar" }, make("div"));
    bar.firstChild.style.width = `${done}%`;
    const button = (text, key, verb, main) => {
      const made = make("button", { type: "button", className: main ? "main" : "" }, make("kbd", { textContent: key }), text);
      made.addEventListener("click", () => say(verb));
      return made;
    };
    const undo = button("Undo", "u", "undo");
    undo.disabled = !state.undoable;
    const two = state.fields.filter(each => !each.wide).length === 2;
    const scroll = box.scrollTop;
    box.replaceChildren(
      make("div", { className: "head" }, make("b", { textContent: `${state.at + 1} of ${state.count}` }), make("span", { className: "badge", textContent: state.status }),
        bar, make("span", { className: "soft", textContent: `${state.done} done, as ${state.annotator}` })),
      make("div", { className: "fields" + (two ? " two" : "") }, ...state.fields.map(field)),
      make("div", {}, ...state.questions.map(asked)),
      make("div", { className: "foot" }, button("Submit", "Enter", "submit", true), button("Discard", "s", "discard"), undo,
        button("Back", "k", "previous"), button("Next", "j", "next"), make("span", { className: "soft", textContent: "click here, then keys: 1-9 answer, ↑↓ question" })),
      said(state),
    );
    box.scrollTop = scroll;
    if (focused) box.focus({ preventScroll: true });
  };
  const move = by => {
    const { questions } = model.get("state");
    active = Math.min(questions.length - 1, Math.max(0, active + by));
    box.querySelectorAll(".question").forEach((each, at) => each.classList.toggle("active", at === active));
    const input = box.querySelectorAll(".question")[active]?.querySelector("textarea");
    if (input) input.focus(); else box.focus({ preventScroll: true });
  };
  const keys = { j: () => say("next"), k: () => say("previous"), ArrowRight: () => say("next"), ArrowLeft: () => say("previous"),
    u: () => say("undo"), s: () => say("discard"), Enter: () => say("submit"), ArrowDown: () => move(1), ArrowUp: () => move(-1) };
  box.addEventListener("keydown", event => {
    event.stopPropagation();
    if (event.target.tagName === "TEXTAREA") {
      if (event.key === "Escape" || (event.key === "Enter" && (event.ctrlKey || event.metaKey))) {
        event.preventDefault();
        box.focus({ preventScroll: true });  // which tells what was typed
        if (event.key === "Enter") say("submit");
      }
      return;
    }
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target.tagName === "BUTTON" && (event.key === "Enter" || event.key === " ")) return;  // it is pressed itself
    const question = model.get("state").questions[active];
    const option = question?.kind === "rating" ? question.options.find(each => each === event.key)
      : /^[1-9]$/.test(event.key) && question?.options[Number(event.key) - 1];
    if (option) { event.preventDefault(); pick(question, option); }
    else if (keys[event.key]) { event.preventDefault(); keys[event.key](); }
  });
  const hear = () => { waiting = false; show(); };
  const release = () => { pressed = false; if (late) setTimeout(() => { late = false; show(); }); };
  box.addEventListener("pointerdown", () => { pressed = true; });
  window.addEventListener("pointerup", release);
  window.addEventListener("pointercancel", release);
  model.on("change:state", hear);
  show();
  el.append(box);
  return () => {
    model.off("change:state", hear);
    window.removeEventListener("pointerup", release);
    window.removeEventListener("pointercancel", release);
  };
} };
"""


def review(
    records: Sequence[Record] | Sample,
    *,
    out: str | os.PathLike[str],
    annotator: str,
    questions: Sequence[Question] | None = None,
    suggestions: Iterable[Suggestion | Rating | Vote | Verdict] = (),
) -> "ReviewView":
    """Return one record after the other, with the questions of its kind and buttons and keys to answer them. Plain calls do the same:

        view.answer("supported", "yes"); view.submit(); view.discard(); view.undo(); view.next(); view.responses

    Each answer is in the Parquet file `out` at once, the table that review.pull fills too, under the name `annotator`; with
    the same file and name one goes on where one was. `suggestions` are shown beside the questions, not for a sample that is
    for calibration. Raises InputError for no records and for a name without a character to see, StoreError for a file that
    is no such table."""
    return ReviewView(records, Path(out), annotator, questions, suggestions)


class ReviewView:
    """What `review` returns: `responses` are all that the file holds, `at` the place of the record that is shown, `page` what shows it, `box` the widget."""

    def __init__(
        self,
        records: Sequence[Record] | Sample,
        out: Path,
        annotator: str,
        questions: Sequence[Question] | None,
        suggestions: Iterable[Suggestion | Rating | Vote | Verdict],
    ):
        self.records = list(by_id(records).values())
        if not self.records:
            raise InputError("there are no records to look at. Give some of one kind.")
        if not isinstance(annotator, str) or not annotator.strip():
            raise InputError(f"an annotator has a name, got {annotator!r}. Give it: annotator='ann'.")
        self.questions = tuple(of(one_kind(self.records)) if questions is None else questions)
        if not self.questions or len({each.name for each in self.questions}) < len(self.questions):
            raise InputError("questions need names of their own. Give at least one, each once.")
        self.out, self.annotator = out, annotator.strip()
        self._beside: Mapping[str, str] = records.beside if isinstance(records, Sample) else {}
        hidden = isinstance(records, Sample) and records.is_for_calibration
        self._suggestions = {} if hidden else _suggested(suggestions, self.records)
        self._own: dict[tuple[str, str], Response] = {}  # what was said here
        self._changes: list[tuple[int, dict[str, Response | None]]] = []
        self._shows = 0
        self._seen: tuple[int, int] | None = None  # the file, as it was read last
        self.responses = Responses()
        self._read()
        self.at = next((at for at, each in enumerate(self.records) if not self._is_done(each)), len(self.records) - 1)
        self.page = _page()(state=self._state(*self._greeting()))
        self.page.on_msg(lambda _, content, __: self._hear(content))
        self.box = require("ipywidgets", extra="notebook").VBox([self.page])

    # --- what one says

    @property
    def record(self) -> Record:
        """The record that is shown."""
        return self.records[self.at]

    def answer(self, question: str, value: Any) -> None:
        """Answer a question about the record that is shown; None takes the answer back. It is saved at once, as a draft until `submit`.

        Raises InputError for a value that is no answer to it."""
        asked = self._asked(question)
        value = tuple(value) if isinstance(value, list) else value
        if asked.kind == "multi_label" and isinstance(value, tuple):
            value = tuple(sorted(value, key=lambda each: asked.options.index(each) if each in asked.options else -1))
        # A ranking grows option by option: what is there so far is a draft.
        is_begun = asked.kind == "ranking" and isinstance(value, tuple) and set(value) < {*asked.options}
        if value is not None and not is_begun and (why := asked.why_not(value)):
            raise InputError(f"{value!r:.80} is no answer to {question!r}: {why}.")
        status = self.status(self.record)
        changes = {question: (value, "draft")}
        if status == "discarded":  # it is looked at again
            changes = {each.name: (None, "draft") for each in self.questions} | changes
        elif status == "submitted" and value is not None and not is_begun:
            changes = {question: (value, "submitted")}
        elif status == "submitted" and (asked.is_required or is_begun):  # no longer whole
            mine = self._mine(self.record)
            changes = {each: (said.value, "draft") for each, said in mine.items()} | changes
        self._say(changes)

    def submit(self) -> None:
        """Stand by the answers about the record that is shown, and go to the next one that is not done.

        Raises InputError while a question that must be answered is open."""
        mine = {name: said for name, said in self._mine(self.record).items() if said.value is not None}
        if left := [each.name for each in self.questions if each.is_required and each.name not in mine]:
            raise InputError(f"{', '.join(left)}: not answered yet. Answer, or discard the record.")
        for each in self.questions:
            if each.name in mine and (why := each.why_not(mine[each.name].value)):
                raise InputError(f"{each.name}: {why}.")
        self._say({name: (said.value, "submitted") for name, said in mine.items()})
        self._go_on()

    def discard(self) -> None:
        """Say that the record that is shown cannot be judged, and go to the next one that is not done."""
        self._say({each.name: (None, "discarded") for each in self.questions})
        self._go_on()

    def undo(self) -> None:
        """Take back the last answer, submission or discarding of this view, and show its record. Raises InputError when there is none."""
        if not self._changes:
            raise InputError("nothing was said here that could be taken back.")
        at, before = self._changes[-1]
        self._put(self.records[at], {
            name: (None, "draft") if older is None else (older.value, older.status) for name, older in before.items()
        })  # fmt: skip
        self._changes.pop()
        self.at = at
        self._show("taken back")

    # --- where one is

    def next(self) -> None:
        """Show the next record, the last one's being itself."""
        self.go(min(self.at + 1, len(self.records) - 1))

    def previous(self) -> None:
        """Show the record before, the first one's being itself."""
        self.go(max(self.at - 1, 0))

    def go(self, to: int | str) -> None:
        """Show the record at this place, or with this id. Raises InputError where there is none."""
        places = {record.id: at for at, record in enumerate(self.records)}
        at = places.get(to, -1) if isinstance(to, str) else to
        if not 0 <= at < len(self.records):
            raise InputError(f"there is no record {to!r}; places go from 0 to {len(self.records) - 1}.")
        self.at = at
        self._show("")

    def status(self, record: Record) -> str:
        """Return "submitted", "discarded", "draft", or "" for a record that this person said nothing about."""
        given = {
            said.status for said in self._mine(record).values() if said.value is not None or said.status != "draft"
        }
        return next((each for each in ("discarded", "submitted", "draft") if each in given), "")

    @property
    def progress(self) -> tuple[int, int]:
        """How many records are submitted or discarded, and how many there are."""
        return sum(map(self._is_done, self.records)), len(self.records)

    def __repr__(self) -> str:
        statuses = [self.status(record) for record in self.records]
        counts = ", ".join(f"{statuses.count(each):,} {each}" for each in ("submitted", "discarded", "draft"))
        kind = type(self.records[0]).__name__
        return f"Review of {len(self.records):,} {kind} by {self.annotator}: {counts}, {statuses.count(''):,} to do; saved in {self.out.name}"

    def _repr_mimebundle_(self, **options: Any) -> dict[str, Any]:
        # The text is what is seen where no widget can be drawn, as on GitHub.
        return {**self.box._repr_mimebundle_(**options), "text/plain": repr(self)}

    # --- what is kept

    def _say(self, said: Mapping[str, tuple[Any, str]]) -> None:
        mine = self._mine(self.record)
        is_new = lambda name: name not in mine or (mine[name].value, mine[name].status) != said[name]
        said = {name: said[name] for name in said if is_new(name)}
        if said:
            before = {name: mine.get(name) for name in said}
            self._put(self.record, said)
            self._changes.append((self.at, before))
        self._show("saved")

    def _put(self, record: Record, said: Mapping[str, tuple[Any, str]]) -> None:
        """Keep {question: (value, status)} about a record, in the file first: what cannot be saved was not said."""
        self._read()
        mine, own = self._mine(record), dict(self._own)
        for name, (value, status) in said.items():
            # Not before what it takes the place of, whatever clock that was written by.
            at = max(now(), mine[name].at) if name in mine else now()
            own[record.id, name] = Response(record.id, name, value, self.annotator, status, at)
        kept = self.responses.merge(Responses(tuple(own.values())))
        kept.save(self.out)
        self._own, self.responses, self._seen = own, kept, _stamp(self.out)
        self._index()

    def _read(self) -> None:
        """Read the file where it is new, with what was said here: another notebook, or a pull, may have written it."""
        stamp = _stamp(self.out)
        if stamp is not None and stamp != self._seen:
            self.responses = Responses.load(self.out).merge(Responses(tuple(self._own.values())))
            self._seen = stamp
        self._index()

    def _index(self) -> None:
        self._by_record: dict[str, dict[str, Response]] = {}
        for each in self.responses:
            if each.annotator == self.annotator:
                self._by_record.setdefault(each.record_id, {})[each.question] = each

    def _mine(self, record: Record) -> dict[str, Response]:
        given = self._by_record.get(record.id, {})
        return {each.name: given[each.name] for each in self.questions if each.name in given}

    def _is_done(self, record: Record) -> bool:
        return self.status(record) in ("submitted", "discarded")

    def _asked(self, question: str) -> Question:
        for each in self.questions:
            if each.name == question:
                return each
        raise InputError(f"{question!r} is not asked; {', '.join(each.name for each in self.questions)} are.")

    # --- what is shown

    def _go_on(self) -> None:
        places = [*range(self.at + 1, len(self.records)), *range(self.at)]
        self.at = next((at for at in places if not self._is_done(self.records[at])), self.at)
        self._show(self._greeting()[0] or "saved")

    def _greeting(self) -> tuple[str, bool]:
        done, count = self.progress
        return (f"All {count:,} records are done. They are in {self.out}.", False) if done == count else ("", False)

    def _hear(self, content: Mapping[str, Any]) -> None:
        """What a button or a key asks for, about the record that the person saw."""
        verb = content.get("do")
        try:
            if verb in ("answer", "submit", "discard") and content.get("record") != self.record.id:
                self._show("that came too fast, and was not said: look at this record first", wrong=True)
            elif verb == "answer":
                self.answer(content["question"], content["value"])
            elif verb in ("submit", "discard", "undo", "next", "previous"):
                getattr(self, verb)()
        except (WorkbenchError, ValueError, TypeError) as error:  # nobody would see it
            self._show(str(error), wrong=True)

    def _show(self, said: str, *, wrong: bool = False) -> None:
        self.page.state = self._state(said, wrong)

    def _state(self, said: str, wrong: bool) -> dict[str, Any]:
        mine, done = self._mine(self.record), self.progress[0]
        asked = []
        for each in self.questions:
            given = mine[each.name].value if each.name in mine else None
            suggestion = self._suggestions.get((self.record.id, each.name))
            asked.append({
                "name": each.name, "title": each.title, "kind": each.kind, "options": list(each.options), "required": each.is_required,
                "description": each.description, "value": list(given) if isinstance(given, tuple) else given,
                "suggestion": suggestion and {"value": suggestion.value, "agent": suggestion.agent},
            })  # fmt: skip
        self._shows += 1  # a state that equals the one before would not be sent
        return {
            "record": self.record.id, "at": self.at, "count": len(self.records), "done": done, "status": self.status(self.record),
            "annotator": self.annotator, "fields": _fields(self.record, self.questions, self._beside), "questions": asked,
            "said": said, "wrong": wrong, "undoable": bool(self._changes), "shows": self._shows,
        }  # fmt: skip


def _fields(record: Record, asked: Sequence[Question], beside: Mapping[str, str]) -> list[dict[str, Any]]:
    """The fields as the page shows them: what is asked for is not told, and two texts to compare stand side by side."""
    hidden = {each.name for each in asked}
    texts = {name: text for name, text in shown(record).items() if name not in hidden}
    if record.id in beside:
        texts["beside"] = beside[record.id]
    compared = ("first", "second")
    found = []
    for name, text in texts.items():
        made: dict[str, Any] = {"name": name.replace("_", " "), "text": text, "wide": name not in compared}
        if isinstance(record, ImagePair) and name in compared:
            try:
                made["image"] = _wire._image(text, record)
            except InputError as error:
                made["text"] = str(error)
        elif text is not None:
            made["length"] = len(text)
            made["folds"] = len(text) > _FOLDED_CHARACTERS or text.count("\n") >= _FOLDED_LINES
            if len(text) > _MOST_CHARACTERS:
                made["text"] = (
                    f"{text[:_MOST_CHARACTERS]}…\n(the first {_MOST_CHARACTERS:,} of {len(text):,} characters)"
                )
        found.append(made)
    return found


def _suggested(
    rows: Iterable[Suggestion | Rating | Vote | Verdict], records: Sequence[Record]
) -> dict[tuple[str, str], Suggestion]:
    """{(record, question): suggestion}, the first of several."""
    rows = list(rows)
    given = [each for each in rows if isinstance(each, Suggestion)]
    read = agreement.judged([each for each in rows if not isinstance(each, Suggestion)], records)
    found: dict[tuple[str, str], Suggestion] = {}
    for each in (*given, *read):
        found.setdefault((each.record_id, each.question), each)
    return found


def _stamp(path: Path) -> tuple[int, int] | None:
    """When a file was written and how long it is; None where there is none. Raises StoreError for a folder."""
    try:
        found = path.stat()
    except OSError:
        return None
    if path.is_dir():
        raise StoreError(f"{path} is a folder. Give the path of a Parquet file, such as {path / 'responses.parquet'}.")
    return found.st_mtime_ns, found.st_size


@cache
def _page() -> type:
    """The class of the widget; its messages are {"do": what, "record": the id that was seen}."""
    anywidget, traitlets = require("anywidget", extra="notebook"), require("traitlets", extra="notebook")

    class ReviewPage(anywidget.AnyWidget):
        _esm, _css = _SCRIPT, _STYLE
        state = traitlets.Dict().tag(sync=True)

    return ReviewPage
