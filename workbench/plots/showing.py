"""A figure on the page: interactive, and as an image for where no script runs."""

import base64
import html
import json
import logging
from typing import Any

from workbench._html import escaped
from workbench.errors import MissingLibrary, require
from workbench.plots.drawing import WIDTH


def show(figure: Any, sentence: str = "") -> None:
    """Display a figure, interactive and as a static PNG in one output, so that a page without scripts shows the PNG,
    and then a sentence, as text. Without a Chrome on the machine it is the interactive figure alone."""
    display = require("IPython.display", extra="notebook").display
    config = {"displaylogo": False, "responsive": True}
    title = html.unescape(figure.layout.title.text or "").replace("<br>", " ")
    bundle: dict[str, Any] = {"application/vnd.plotly.v1+json": {**json.loads(figure.to_json()), "config": config}}
    bundle["text/plain"] = f"<Figure: {title}>"
    if image := png(figure):
        bundle["image/png"] = base64.b64encode(image).decode()
    display(bundle, raw=True, metadata={"image/png": {"width": WIDTH}} if image else None)
    if sentence:
        text = f"<p style='max-width:{WIDTH}px'>{escaped(sentence, 2000)}</p>"
        display({"text/plain": sentence, "text/html": text}, raw=True)


def png(figure: Any) -> bytes | None:
    """Return the figure as a PNG, 800 pixels wide at 1.25 dots a pixel; None without kaleido or a working Chrome."""
    return _drawn(figure, {"format": "png", "scale": 1.25})


def svg(figure: Any) -> str | None:
    """Return the figure as an SVG, 800 pixels wide; None without kaleido or a working Chrome."""
    image = _drawn(figure, {"format": "svg"})
    return image if image is None else image.decode()


def _drawn(figure: Any, options: dict[str, Any]) -> bytes | None:
    try:
        kaleido = require("kaleido", extra="notebook")
    except MissingLibrary:
        return None
    from kaleido import errors

    # choreographer, below kaleido, logs each message of Chrome's that it could not read and ignored; it would land in the
    # notebook's outputs.
    was_disabled = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    options = {**options, "width": WIDTH, "height": figure.layout.height or 450}
    try:
        # One browser an image, a second or two each: kaleido's lasting one waits for ever when its Chrome ends.
        # mathjax=False, or the page asks a CDN for a script.
        return kaleido.calc_fig_sync(figure.to_plotly_json(), opts=options, kopts={"mathjax": False})
    except (errors.ChromeNotFoundError, errors.BrowserFailedError, errors.BrowserClosedError):
        return None
    finally:
        logging.disable(was_disabled)
