"""python -m workbench: the main job from a terminal."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from workbench.errors import WorkbenchError

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, help=__doc__)


@app.callback()
def _root() -> None:
    """Documents in, a dataset that can say where every row came from out."""


@app.command()
def generate(
    docs: Annotated[
        Path,
        typer.Argument(
            help="Folder of .md, .mdx, .txt, .html, .pdf or .docx files, one such file, or a Parquet file with a text column."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder for the run; the same command goes on where a stopped one ended.")],
    model: Annotated[
        str,
        typer.Option(
            help='"offline" (rules, no model), a folder of a transformers model, or a model name on the server at --base-url.'
        ),
    ] = "offline",
    base_url: Annotated[
        str,
        typer.Option(
            help="An OpenAI-compatible server, for example http://127.0.0.1:8000/v1. The key comes from OPENAI_API_KEY."
        ),
    ] = "",
    rows: Annotated[
        int | None,
        typer.Option(
            min=1, help="Go on until this many rows have passed every check. Default: one pass over the passages."
        ),
    ] = None,
    budget: Annotated[float | None, typer.Option(min=0, help="US dollars at most, a hard cap.")] = None,
    max_requests: Annotated[
        int | None, typer.Option(min=1, help="Requests at most, a hard cap; for servers without a price.")
    ] = None,
    personas: Annotated[int, typer.Option(min=0, help="Invent this many personas first, who then ask.")] = 0,
    language: Annotated[
        list[str] | None, typer.Option(help="Language a row may be in (ISO 639-1); may be given again.")
    ] = None,
    temperature: Annotated[float | None, typer.Option(min=0)] = None,
    max_tokens: Annotated[
        int | None, typer.Option(min=1, help="Longest answer; raise it for models that think before they answer.")
    ] = None,
    concurrency: Annotated[int, typer.Option(min=1, help="Requests under way at once.")] = 64,
    seed: Annotated[int, typer.Option(help="Decides the plan: passages, kinds of question, personas.")] = 0,
    gates: Annotated[
        bool, typer.Option(help="Stop between the stages 10, 100 and the rest when the rates do not hold.")
    ] = True,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask after the estimate.")] = False,
) -> None:
    """Make question, answer and evidence rows from documents, check them, and write exports and report.html."""
    from workbench import generate as job
    from workbench import llm, store

    sampling = llm.Sampling(temperature=temperature, max_tokens=max_tokens)
    caps = {"money": budget, "requests": max_requests}
    try:
        client = _client(model, base_url, sampling, concurrency)
        cap = llm.Budget(**caps) if any(value is not None for value in caps.values()) else None
        if budget is not None and getattr(client, "price", None) is None:
            _fail(
                f"a --budget in dollars needs a price, and none is known for {model!r} at {base_url or 'this place'}. Cap requests instead: --max-requests 1000."
            )
        documents = store.documents(docs)
        for name, why in documents.skipped:
            typer.secho(f"skipped {name}: {why}", fg="yellow", err=True)
        settings = job.Settings(
            rows=rows, personas=personas, languages=tuple(language or ("en",)), seed=seed, concurrency=concurrency
        )
        if not model.startswith("offline"):
            first = f"inventing {personas} personas, then " if personas else ""
            typer.echo(f"{first}asking a pilot of 20, to estimate the questions ...", err=True)
            typer.echo(
                f"estimate: {job.estimate(documents, out=out, client=client, settings=settings, budget=cap)}", err=True
            )
            if not yes and sys.stdin.isatty() and not typer.confirm("Go on?", default=True):
                raise typer.Exit(1)
        data = job.from_documents(
            documents, out=out, client=client, settings=settings, gates=job.Gates() if gates else None, budget=cap
        )
    except WorkbenchError as error:
        _fail(str(error))
    except KeyboardInterrupt as stopped:
        typer.echo(f"\n{stopped or 'Stopped.'}", err=True)
        raise typer.Exit(130) from None
    _show(data, out)
    if data.why_fewer:
        raise typer.Exit(3)


def _client(model: str, base_url: str, sampling, concurrency: int):
    from workbench import llm

    if base_url and model.startswith("offline"):
        _fail(
            "--base-url names a server and --model names none of its models. Add --model NAME, or leave --base-url out for the offline rules."
        )
    if model == "offline" or model.startswith("offline/"):
        return llm.Offline(model.partition("/")[2] or "strong", sampling=sampling)
    if base_url:
        return llm.OpenAI(base_url, model, sampling=sampling, limits=llm.Limits(concurrency=concurrency))
    if Path(model).is_dir():
        return llm.Local(model, sampling=sampling)
    _fail(f"where is {model!r}? Give --base-url for a server, a folder for a local model, or --model offline.")


def _show(data, out: Path) -> None:
    from workbench import _html, runs

    funnel = [[step.label, step.count if step.kind == "total" else -step.count] for step in data.run.funnel()]
    typer.echo(_html.text_table(["", "rows"], funnel, width=60))
    if data.growth:
        typer.echo("\n" + _html.text_table(*data.growth.table()))
    if data.run.is_offline:
        typer.echo(
            "\nWritten by the offline rules, not by a model: it shows that everything works, and is no data to train on."
        )
    typer.echo(f"\n{len(data.records):,} rows, {runs.cost_text(data.spent)}, {data.run.seconds:.1f} s")
    typer.echo(f"report   {data.report}")
    for path in data.files.values():
        typer.echo(f"export   {path}")
    if data.why_fewer:
        typer.secho(f"\n{data.why_fewer}", fg="yellow", err=True)


def _fail(message: str) -> None:
    typer.secho(f"error: {message}", fg="red", err=True)
    raise typer.Exit(2)


if __name__ == "__main__":
    app()
