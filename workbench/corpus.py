"""Documents cut into passages with character spans, and BM25 over them.

Cutting follows the document's structure (headings, paragraphs, lists, code blocks stay whole where they fit) and keeps
offsets exact: `document.text[span.start:span.end] == passage.text`, always."""

import re
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from workbench.errors import InputError
from workbench.records import Document, Passage, Span, content_hash

_WORD = re.compile(r"\w+")
_WORDS_A_PASSAGE_NEEDS = 12  # less than a sentence or two carries no question


@dataclass(frozen=True, slots=True)
class Chunk:
    """A passage with the headings above it, outermost first, the document's title before them."""

    passage: Passage
    headings: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        return self.passage.text

    @property
    def section(self) -> str:
        """The headings on one line, for example "Workers > Shutting down"."""
        return " > ".join(self.headings) or "(untitled)"


def chunk(document: Document, *, characters: tuple[int, int] = (500, 1500)) -> list[Chunk]:
    """Return a document's chunks, in order, each at most `characters[1]` long and filled to `characters[0]` where the
    structure allows. Pieces with fewer than 12 words (a lone heading, a link) are left out."""
    from semantic_text_splitter import MarkdownSplitter

    low, high = characters
    if not 0 < low <= high:
        raise InputError(f"characters must be (low, high) with 0 < low <= high, got {characters}.")
    headings = _headings(document)
    chunks = []
    for start, text in MarkdownSplitter((low, high)).chunk_indices(document.text):
        if len(_WORD.findall(text)) >= _WORDS_A_PASSAGE_NEEDS:
            span = Span(document.id, start, start + len(text))
            chunks.append(Chunk(Passage(text, span), _path_at(headings, _body_start(text) + start, document.title)))
    return chunks


def _headings(document: Document) -> list[tuple[int, int, str]]:
    """(character offset, level, text) of every heading; a '#' in a code block is none, which is why a parser finds them."""
    if "#" not in document.text and "\n=" not in document.text and "\n-" not in document.text:
        return []
    from markdown_it import MarkdownIt

    line_starts = [0, *(match.end() for match in re.finditer("\r\n?|\n", document.text))]
    front = re.match(r"---\r?\n.*?\n---[ \t]*\r?\n", document.text, re.DOTALL)  # its last line would make it a heading
    tokens = (
        MarkdownIt("commonmark").disable(["emphasis", "link", "image", "autolink", "html_inline"]).parse(document.text)
    )
    return [
        (line_starts[token.map[0]], int(token.tag[1]), _plain_heading(tokens[at + 1].content))
        for at, token in enumerate(tokens)
        if token.type == "heading_open" and token.map and not (front and line_starts[token.map[0]] < front.end())
    ]


def _plain_heading(text: str) -> str:
    text = re.sub(r"\s*\{[^{}]*\}\s*$", "", text)  # an anchor such as { #queues }
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text)  # a link
    # Code first, as it is; then emphasis, which stands at a word's edge: the underscore in root_path is a letter.
    return re.sub(r"(`+)(.+?)\1|(?<!\w)[*_]+(?=\S)|(?<=\S)[*_]+(?!\w)", lambda mark: mark[2] or "", text).strip()


def _body_start(text: str) -> int:
    """Where the first line stands that is no heading: a chunk that opens with a heading belongs under it."""
    at = 0
    for line in text.splitlines(keepends=True):
        if line.strip() and not line.startswith("#"):
            return at
        at += len(line)
    return 0


def _path_at(headings: Sequence[tuple[int, int, str]], offset: int, title: str) -> tuple[str, ...]:
    path: list[tuple[int, str]] = []
    for _, level, text in headings[: bisect_right(headings, offset, key=lambda heading: heading[0])]:
        path = [(above, name) for above, name in path if above < level] + [(level, text)]
    names = [name for _, name in path if name]
    return tuple(names if title in ("", *names[:1]) else [title, *names])


class Corpus:
    """Chunks that can be searched. BM25 as in Lucene: k1 = 1.5, b = 0.75, idf ln(1 + (N - n + 0.5) / (n + 0.5)); tokens
    are lower-cased words; ties go to the earlier chunk (Robertson & Zaragoza 2009; hit and MRR figures are in the tests)."""

    def __init__(self, chunks: Sequence[Chunk]):
        if not chunks:
            raise InputError(
                "there is no passage to work with: every document is empty or shorter than 12 words. Give longer documents."
            )
        self.chunks = tuple(chunks)

    @classmethod
    def of(cls, documents: Iterable[Document], *, characters: tuple[int, int] = (500, 1500)) -> "Corpus":
        """Return the corpus of every chunk of these documents."""
        return cls([piece for document in documents for piece in chunk(document, characters=characters)])

    @classmethod
    def whole(cls, documents: Iterable[Document], *, most: int = 12_000) -> "Corpus":
        """Return the corpus of whole documents, a chunk each, under its title; of one that is longer than `most` characters,
        what comes before the last break between paragraphs, lines or words that fits. Those with fewer than 12 words are left out."""
        if most < 1:
            raise InputError(f"most is a number of characters, 1 or more, got {most}.")
        pieces = []
        for document in documents:
            text = document.text.rstrip()
            start = len(text) - len(text.lstrip())
            text = text[start : _end(text, start, most)]
            if len(_WORD.findall(text)) >= _WORDS_A_PASSAGE_NEEDS:
                title = (document.title,) if document.title else ()
                pieces.append(Chunk(Passage(text, Span(document.id, start, start + len(text))), title))
        return cls(pieces)

    def __add__(self, other: "Corpus") -> "Corpus":
        """Return the corpus of the chunks of both, each passage once: a short document is its own only passage."""
        return Corpus(
            tuple({piece.passage: piece for piece in (*other.chunks[::-1], *self.chunks[::-1])}.values())[::-1]
        )

    def __len__(self) -> int:
        return len(self.chunks)

    def __repr__(self) -> str:
        documents = len({piece.passage.span.document_id for piece in self.chunks})
        return f"Corpus({len(self):,} passages of {documents:,} documents)"

    @cached_property
    def content_id(self) -> str:
        """The hash of all passages: a task that searches this corpus depends on all of them."""
        return content_hash([[piece.passage.span, piece.text] for piece in self.chunks])

    @cached_property
    def _index(self):
        from bm25s import BM25

        index = BM25(method="lucene", k1=1.5, b=0.75)
        index.index([_tokens(piece.text) for piece in self.chunks], show_progress=False)
        return index

    def scores(self, query: str) -> np.ndarray:
        """Return each chunk's BM25 score for a query, (n,) float32, 0 where no word is shared."""
        tokens = [token for token in _tokens(query) if token in self._index.vocab_dict]
        return self._index.get_scores(tokens) if tokens else np.zeros(len(self.chunks), dtype=np.float32)

    def search(self, query: str, k: int) -> list[Chunk]:
        """Return the best k chunks, best first; chunks that share no word with the query are left out."""
        scores = self.scores(query)
        k = min(k, len(scores))
        best = np.argpartition(-scores, k - 1)[:k] if k < len(scores) else np.arange(len(scores))
        # argpartition breaks ties as it likes: take everything that ties with the last place, then sort by index.
        if k and k < len(scores):
            best = np.flatnonzero(scores >= scores[best].min())
        order = best[np.lexsort((best, -scores[best]))][:k]
        return [self.chunks[at] for at in order if scores[at] > 0]


def _end(text: str, start: int, most: int) -> int:
    """Where a text of at most `most` characters from `start` ends: before the last break in its second half, if need be."""
    if len(text) - start <= most:
        return len(text)
    for blank in ("\n\n", "\n", " "):
        if (end := text.rfind(blank, start + most // 2, start + most + 1)) > 0:
            return end
    return start + most


def _tokens(text: str) -> list[str]:
    return _WORD.findall(text.lower())


def locate(evidence: str, text: str) -> tuple[int, int] | None:
    """Return where a quotation stands in a text, (start, end): exactly, or with any run of white space for another; else
    None. It begins and ends where words do. Quotation marks put around it by the model are taken off when it is not there
    with them. Of several places the first counts."""
    flat, at = "", None
    for quoted in (evidence.strip(), evidence.strip().strip("\"'“”‘’«»`").strip()):
        if not quoted:
            continue
        if (start := _find(quoted, text)) >= 0:
            return start, start + len(quoted)
        if at is None:
            # Words with one blank between them, and the place of each character in the text.
            pieces = [(match.start(), match[0]) for match in re.finditer(r"\S+", text)]
            flat = " ".join(piece for _, piece in pieces)
            at = [place + offset for place, piece in pieces for offset in range(len(piece) + 1)]
        words = " ".join(quoted.split())
        if (start := _find(words, flat)) >= 0:
            return at[start], at[start + len(words) - 1] + 1
    return None


def _find(words: str, text: str) -> int:
    """Where `words` stand in a text as whole words, -1 when they do not."""
    start = text.find(words)
    while start >= 0:
        end = start + len(words)
        if not _is_inside_a_word(text, start) and not _is_inside_a_word(text, end):
            return start
        start = text.find(words, start + 1)
    return -1


def _is_inside_a_word(text: str, place: int) -> bool:
    """True when letters or digits stand on both sides; never in scripts that put no blanks between words (Thai, Chinese)."""
    sides = text[max(0, place - 1) : place + 1]
    return 0 < place < len(text) and sides.isalnum() and max(sides) < "\u0e00"
