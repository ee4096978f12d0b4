"""Documents in: folders of text, HTML, PDF and Word files, or a table with a column of texts."""

import os
import re
from pathlib import Path

from workbench.errors import InputError, RecordError, WorkbenchError, require
from workbench.records import Document, from_row
from workbench.store.parquet import read_table

_TEXT_SUFFIXES = {".md", ".mdx", ".markdown", ".txt"}
_CONVERTED_SUFFIXES = {".html", ".htm", ".pdf", ".docx"}


class Documents(list[Document]):
    """A list of documents, and the files that could not be read: `skipped` holds (path, why)."""

    skipped: tuple[tuple[str, str], ...] = ()

    def __repr__(self) -> str:
        characters = sum(len(document.text) for document in self)
        more = (
            f", {len(self.skipped)} files skipped ({self.skipped[0][0]}: {self.skipped[0][1]})" if self.skipped else ""
        )
        return f"{len(self):,} documents, {characters:,} characters{more}"

    def _repr_html_(self) -> str:
        from workbench._html import html_table

        rows = [[document.path, document.title, len(document.text)] for document in self[:10]]
        return html_table(["path", "title", "characters"], rows, len(self), note=repr(self))


def documents(path: str | os.PathLike[str]) -> Documents:
    """Return the documents of a folder (.md, .mdx, .txt, .html, .pdf, .docx, searched in depth), of one such file, or of
    a Parquet file with a `text` column, in order of their paths.

    A file that cannot be read is skipped and named in `.skipped`. Raises InputError when nothing is there or nothing
    could be read."""
    root = Path(path)
    if not root.exists():
        raise InputError(f"there is no file or folder {root}. Check the path.")
    if root.is_file() and root.suffix == ".parquet":
        return _documents_of_table(root)
    suffixes = _TEXT_SUFFIXES | _CONVERTED_SUFFIXES
    if root.is_file():
        files = [root] if root.suffix.lower() in suffixes else []
    else:
        there = [
            file for file in root.rglob("*") if not any(part.startswith(".") for part in file.relative_to(root).parts)
        ]
        # A run's own report is no document, where somebody put the output beside the pages.
        outputs = {file.parent for file in there if file.name in ("run.json", "ledger.sqlite")}
        files = sorted(
            file
            for file in there
            if file.is_file() and file.suffix.lower() in suffixes and not outputs & {*file.parents}
        )
    if not files:
        what = "is no document of a known kind" if root.is_file() else "holds no document"
        raise InputError(
            f"{root} {what} ({', '.join(sorted(suffixes))}, or a .parquet file with a text column). Name the folder that holds them."
        )
    found, skipped = Documents(), []
    for file in files:
        name = file.relative_to(root).as_posix() if root.is_dir() else file.name
        try:
            if name != name.encode("utf-8", "replace").decode():
                raise _Unreadable("its name is not UTF-8; rename it")
            text = _text_of(file)
            found.append(Document(text, path=name, title=_title(text, file)))
        except _Unreadable as error:
            skipped.append((name.encode("utf-8", "replace").decode(), str(error)))
    found.skipped = tuple(skipped)
    if not found:
        raise InputError(
            f"none of the {len(files)} documents in {root} could be read; {skipped[0][0]}: {skipped[0][1]}."
        )
    return found


class _Unreadable(Exception):
    """Why one file cannot be a document."""


def _text_of(file: Path) -> str:
    try:
        text = _converted(file) if file.suffix.lower() in _CONVERTED_SUFFIXES else _decoded(file.read_bytes())
    except OSError as error:
        raise _Unreadable(error.strerror or str(error)) from error
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    if "\x00" in text:
        raise _Unreadable("it holds zero bytes: not a text file")
    if not text.strip():
        raise _Unreadable("it holds no text")
    return text


def _decoded(raw: bytes) -> str:
    encoding = "utf-16" if raw[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        return raw.decode(encoding)
    except UnicodeDecodeError as error:
        raise _Unreadable(f"it is not UTF-8 (byte {error.start}); convert it, for example with iconv") from None


def _converted(file: Path) -> str:
    """HTML, PDF and Word as Markdown, by markitdown.

    Only the converter of the file's own kind is asked: by default markitdown takes a damaged PDF for plain text, and it
    would follow links and load plugins."""
    markitdown = require("markitdown", extra="documents")
    converter = markitdown.MarkItDown(enable_builtins=False, enable_plugins=False)
    name = {".pdf": "PdfConverter", ".docx": "DocxConverter"}.get(file.suffix.lower(), "HtmlConverter")
    converter.register_converter(getattr(require("markitdown.converters", extra="documents"), name)())
    try:
        return converter.convert_local(file).text_content
    except WorkbenchError:
        raise
    except Exception as error:
        # markitdown lets through what its parsers raise on a damaged file, of any class.
        raise _Unreadable(
            f"it could not be converted: {' '.join(str(error).split())[:200] or type(error).__name__}"
        ) from error


def _title(text: str, file: Path) -> str:
    prose = re.sub(
        r"^ *(```|~~~).*?(?:^ *\1|\Z)", "", text[:5000], flags=re.MULTILINE | re.DOTALL
    )  # a '#' in code is a comment
    heading = re.search(r"^# +(.+?)(?:\s*\{[^{}\n]*\})?\s*$", prose, re.MULTILINE) or re.search(
        r"\A---\n(?:.*\n)*?title: *(.+)\n", text[:2000]
    )
    return heading[1].strip(" \"'#") if heading else file.stem.replace("-", " ").replace("_", " ")


def _documents_of_table(path: Path) -> Documents:
    rows = read_table(path)
    if "text" not in rows.column_names:
        raise InputError(
            f"{path} has no column 'text'; it has {', '.join(rows.column_names)}. Rename the column that holds the documents."
        )
    found, skipped = Documents(), []
    has = set(rows.column_names)
    for at, row in enumerate(rows.to_pylist()):
        text = row["text"]
        if not isinstance(text, str) or not text.strip():
            skipped.append((f"row {at}", "its text is empty"))
            continue
        if {"id", "provenance"} <= has:
            try:
                found.append(from_row(Document, row))
                continue
            except RecordError as error:
                raise InputError(f"{path}, row {at}: {error}") from error
        found.append(Document(text, path=str(row.get("path") or f"row {at}"), title=str(row.get("title") or "")))
    if not found:
        raise InputError(f"{path} holds no text in its column 'text'.")
    found.skipped = tuple(skipped)
    return found
