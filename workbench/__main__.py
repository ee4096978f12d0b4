"""python -m workbench: the main job from a terminal."""

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from workbench.errors import WorkbenchError

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, help=__doc__)


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """Errors of ours as a line and exit code 2; the stop button as what it left, and 130."""
    try:
        yield
    except WorkbenchError as error:
        _fail(str(error))
    except KeyboardInterrupt as stopped:
        typer.echo(f"\n{str(stopped) or 'Stopped.'}", err=True)
        raise typer.Exit(130) from None


@app.callback()
def _root() -> None:
    """Documents in, a dataset that can say where every row came from out."""


Docs = Annotated[
    Path,
    typer.Argument(
        help="Folder of .md, .mdx, .txt, .html, .pdf or .docx files, one such file, or a Parquet file with a text column."
    ),
]
Out = Annotated[Path, typer.Option(help="Folder for what is made; the same command goes on where a stopped one ended.")]
Model = Annotated[
    str,
    typer.Option(
        help='"offline" (rules, no model), a folder of a transformers model, or a model name on the server at --base-url.'
    ),
]
BaseUrl = Annotated[
    str,
    typer.Option(
        help="An OpenAI-compatible server, for example http://127.0.0.1:8000/v1. The key comes from OPENAI_API_KEY."
    ),
]
Dollars = Annotated[float | None, typer.Option(min=0, help="US dollars at most, a hard cap.")]
MaxRequests = Annotated[
    int | None, typer.Option(min=1, help="Requests at most, a hard cap; for servers without a price.")
]
Temperature = Annotated[float | None, typer.Option(min=0)]
MaxTokens = Annotated[
    int | None, typer.Option(min=1, help="Longest answer; raise it for models that think before they answer.")
]
Concurrency = Annotated[int, typer.Option(min=1, help="Requests under way at once.")]


@app.command()
def generate(
    docs: Docs,
    out: Out,
    model: Model = "offline",
    base_url: BaseUrl = "",
    rows: Annotated[
        int | None,
        typer.Option(
            min=1, help="Go on until this many rows have passed every check. Default: one pass over the passages."
        ),
    ] = None,
    budget: Dollars = None,
    max_requests: MaxRequests = None,
    personas: Annotated[int, typer.Option(min=0, help="Invent this many personas first, who then ask.")] = 0,
    language: Annotated[
        list[str] | None, typer.Option(help="Language a row may be in (ISO 639-1); may be given again.")
    ] = None,
    temperature: Temperature = None,
    max_tokens: MaxTokens = None,
    concurrency: Concurrency = 64,
    seed: Annotated[int, typer.Option(help="Decides the plan: passages, kinds of question, personas.")] = 0,
    gates: Annotated[
        bool, typer.Option(help="Stop between the stages 10, 100 and the rest when the rates do not hold.")
    ] = True,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask after the estimate.")] = False,
) -> None:
    """Make question, answer and evidence rows from documents, check them, and write exports and report.html."""
    from workbench import generate as job
    from workbench import llm

    sampling = llm.Sampling(temperature=temperature, max_tokens=max_tokens)
    with _told():
        client = _client(model, base_url, sampling, concurrency)
        cap = _budget(client, budget, max_requests, f"{model!r} at {base_url or 'this place'}")
        documents = _documents(docs)
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
    _show(data, out)
    if len(data.personas) < personas:
        typer.secho(
            f"{len(data.personas):,} of {personas:,} personas: the rest repeated somebody or failed. They are in {out / 'personas'}.",
            fg="yellow", err=True,
        )  # fmt: skip
    if data.why_fewer:
        raise typer.Exit(3)


@app.command()
def optimize(
    docs: Docs,
    out: Out,
    prompt: Annotated[
        str, typer.Option(help="The version to start from: rag/question@1 or persona/from_text@1.")
    ] = "rag/question@1",
    method: Annotated[
        str,
        typer.Option(help="bootstrap (demonstrations), mipro (both), gepa (the instruction), or none (as written)."),
    ] = "bootstrap",
    examples: Annotated[
        int, typer.Option(min=10, help="Passages to ask about: 40% train, 30% dev, 30% held out.")
    ] = 100,
    model: Model = "offline",
    base_url: BaseUrl = "",
    budget: Dollars = None,
    max_requests: MaxRequests = None,
    temperature: Temperature = None,
    max_tokens: MaxTokens = None,
    concurrency: Concurrency = 8,
    seed: Annotated[int, typer.Option(help="Decides the examples, their split, and the search.")] = 0,
) -> None:
    """Search for a better prompt with DSPy, freeze it as the next version, and compare both on held-out examples."""
    from workbench import llm
    from workbench.prompts import examples as of
    from workbench.prompts import optimize as job
    from workbench.prompts import versions

    methods = {"bootstrap": job.Bootstrap, "mipro": job.MIPRO, "gepa": job.GEPA, "none": job.AsWritten}
    kinds = {"rag/question": of.rag_question, "persona/from_text": of.persona}
    if method not in methods:
        _fail(f"--method {method!r} is not one of {', '.join(methods)}.")
    if (name := prompt.partition("@")[0]) not in kinds:
        _fail(
            f"there are examples for {' and '.join(kinds)}, and none for {prompt!r}. Make your own in Python: workbench.prompts.examples."
        )
    with _told():
        client = _client(model, base_url, llm.Sampling(temperature=temperature, max_tokens=max_tokens), concurrency)
        cap = _budget(client, budget, max_requests, f"{model!r} at {base_url or 'this place'}")
        split = kinds[name](_documents(docs), count=examples, seed=seed).split(seed=seed)
        settings = job.Settings(seed=seed, concurrency=concurrency, budget=cap)
        found = job.search(prompt, split, client=client, out=out, method=methods[method](), settings=settings)
    typer.echo(f"{found!r}\n")
    typer.echo(f"{versions.history(name, folders=(versions.FOLDER, out / 'prompts'))!r}\n")
    if found.experiment.is_offline:
        typer.echo("Answered by the offline rules, not by a model: this version is no choice for real models.")
    typer.echo(f"prompt   {found.path}")


@app.command()
def prefer(
    prompts: Annotated[
        Path, typer.Argument(help="Prompts: .txt (one a line), .jsonl or .parquet with instruction or prompt.")
    ],
    out: Out,
    writers: Annotated[
        str, typer.Option(help="Models that answer, with commas between; each prompt is answered by --each of them.")
    ] = "offline/strong,offline/fair,offline/weak",
    judge: Annotated[
        str, typer.Option(help="The model that rates the answers; of another family than the writers.")
    ] = "offline",
    each: Annotated[int, typer.Option(min=2, help="Different writers for each prompt.")] = 3,
    base_url: BaseUrl = "",
    min_gap: Annotated[
        float | None,
        typer.Option(
            min=0, help="Least difference in score of a pair. Default: what --calibration proposes, else 1.0."
        ),
    ] = None,
    calibration: Annotated[
        Path | None, typer.Option(help="A calibration.json of this judge: how far it agrees with people.")
    ] = None,
    budget: Dollars = None,
    max_requests: MaxRequests = None,
    temperature: Temperature = None,
    max_tokens: MaxTokens = None,
    concurrency: Concurrency = 16,
    seed: Annotated[int, typer.Option(help="Decides who answers what, and under which principle.")] = 0,
) -> None:
    """Answer prompts with several models, rate the answers in four dimensions, and write preference pairs for TRL."""
    from workbench import llm, runner, share
    from workbench.quality import calibration as known
    from workbench.quality import pairs
    from workbench.recipes import preference
    from workbench.records import Instruction, Rating

    sampling = llm.Sampling(temperature=temperature, max_tokens=max_tokens)
    names = [name.strip() for name in writers.split(",") if name.strip()]
    with _told():
        members = {name: _client(name, base_url, sampling, concurrency) for name in names}
        own = _client(judge, base_url, llm.Sampling(max_tokens=max_tokens), concurrency)
        pool = llm.Pool(**members | {"judge": own})
        if budget is not None and not all(getattr(client, "price", None) for client in pool.members.values()):
            _fail("a --budget in dollars needs the price of every model. Cap requests instead: --max-requests 1000.")
        cap = llm.Budget(money=budget, requests=max_requests) if (budget, max_requests) != (None, None) else None
        people = known.load(calibration) if calibration else None
        plan = preference.plan(prompts, writers=names, each=each, seed=seed)
        options = runner.Options(concurrency=concurrency)
        run = runner.run(preference.make, plan, client=pool, out=out, budget=cap, options=options)
        typer.echo(f"{run!r}\n")
        rows = {kind: [row for row in run.records if isinstance(row, kind)] for kind in (Instruction, Rating)}
        made = pairs.pairs(rows[Instruction], rows[Rating], min_gap=min_gap, calibration=people)
        typer.echo(f"{made!r}\n")
        files = share.export(made.records, out) if made.records else {}
    for path in files.values():
        typer.echo(f"export   {path}")
    if not files:
        _fail("no pair is left to train on; the reasons are above. Give more prompts, or a smaller --min-gap.")


@app.command()
def personas(
    docs: Docs,
    out: Out,
    rows: Annotated[int, typer.Option(min=1, help="Go on until so many different personas are there.")] = 100,
    rounds: Annotated[
        int, typer.Option(min=0, max=6, help="Rounds of people around people, after those from texts.")
    ] = 6,
    grain: Annotated[str, typer.Option(help="What a text is: passages, documents (whole), or both.")] = "passages",
    model: Model = "offline",
    base_url: BaseUrl = "",
    budget: Dollars = None,
    max_requests: MaxRequests = None,
    temperature: Temperature = None,
    max_tokens: MaxTokens = None,
    concurrency: Concurrency = 64,
    seed: Annotated[int, typer.Option(help="Decides passages, relations and ties.")] = 0,
    gates: Annotated[bool, typer.Option(help="Stop when answers cannot be read, or hardly anybody is new.")] = True,
) -> None:
    """Invent different people from documents, and round by round people around them, without repeating anybody."""
    from workbench import llm
    from workbench import personas as job

    with _told():
        client = _client(model, base_url, llm.Sampling(temperature=temperature, max_tokens=max_tokens), concurrency)
        cap = _budget(client, budget, max_requests, f"{model!r} at {base_url or 'this place'}")
        settings = job.Settings(rows=rows, rounds=rounds, grain=grain, seed=seed, concurrency=concurrency)
        found = job.grow(
            _documents(docs), out=out, client=client, settings=settings, gates=job.GATES if gates else None, budget=cap
        )
    typer.echo(f"{found!r}\n")
    if found.is_offline:
        typer.echo("Written by the offline rules, not by a model: people to try everything on, and none to trust.")
    typer.echo(f"personas {found.file}")
    if found.why_fewer:
        raise typer.Exit(3)


@app.command("map")
def map_(
    rows: Annotated[Path, typer.Argument(help="A Parquet file of records, or any with a column of text.")],
    out: Out,
    column: Annotated[
        str, typer.Option(help="The text to go by. Default: question, instruction, prompt, task or text.")
    ] = "",
    model: Annotated[
        str, typer.Option(help="What embeds the texts: hashing, or a sentence-transformers model.")
    ] = "hashing",
    min_size: Annotated[int | None, typer.Option(min=2, help="Fewest rows of a cluster.")] = None,
    seed: Annotated[int, typer.Option(help="Decides the map.")] = 0,
) -> None:
    """Map texts into named clusters: a table, a folder that clusters.load() reads, and a picture."""
    from workbench import clusters, embed, plots, store

    with _told():
        if rows.is_dir():
            _fail(f"{rows} is a folder. Name a Parquet file, such as {rows / 'personas.parquet'}.")
        table = store.read_table(rows)
        known = ("question", "instruction", "prompt", "task", "text")
        column = column or next((name for name in known if name in table.column_names), "text")
        if column not in table.column_names:
            _fail(f"{rows} has no column {column!r}; it has {', '.join(table.column_names)}. Name one with --column.")
        texts = table.column(column).to_pylist()
        if odd := next((text for text in texts if text is not None and not isinstance(text, str)), None):
            _fail(f"{column!r} of {rows} holds no text but {str(odd)[:80]}. Name a column of text with --column.")
        ids = table.column("id").to_pylist() if "id" in table.column_names else [None] * len(texts)
        said = [
            (at if one is None else one, text)
            for at, (one, text) in enumerate(zip(ids, texts, strict=True))
            if text and text.strip()
        ]
        written: dict[str, str] = {}
        for one, text in said:
            written.setdefault(str(one), text)
        gone = {"without text": len(texts) - len(said), "with an id that was there": len(said) - len(written)}
        for why, count in gone.items():
            if count:
                typer.secho(f"left out {count:,} rows {why}", fg="yellow", err=True)
        found = clusters.fit(
            list(written.values()),
            ids=list(written),
            model=embed.HASHING if model == "hashing" else model,
            settings=clusters.Settings(min_size=min_size, seed=seed),
        )
        folder = found.save(out)
    typer.echo(f"{found!r}\n")
    if picture := plots.png(plots.data_map(found)):
        (out / "map.png").write_bytes(picture)
        typer.echo(f"picture  {out / 'map.png'}")
    typer.echo(f"map      {folder}")


@app.command()
def train(
    rows: Annotated[
        Path,
        typer.Argument(
            help="What was exported: pairs (dpo, orpo, reward) or answered instructions (sft), Parquet or JSON Lines."
        ),
    ],
    out: Out,
    method: Annotated[
        str, typer.Option(help="dpo, orpo, reward or sft. Default: dpo for pairs, sft for answers.")
    ] = "",
    base: Annotated[
        str, typer.Option(help='The model to start from: a folder, a Hub id, or "tiny-base", which is made here once.')
    ] = "tiny-base",
    held_out: Annotated[
        Path | None, typer.Option(help="Rows to measure on, of people if you have any. Default: a share of the rows.")
    ] = None,
    held_out_share: Annotated[
        float, typer.Option(min=0.01, max=0.99, help="The share to measure on where no --held-out is given.")
    ] = 0.3,
    seeds: Annotated[
        int, typer.Option(min=1, help="How many times each arm is trained; 3 at least for a verdict to hold.")
    ] = 3,
    epochs: Annotated[int, typer.Option(min=1)] = 1,
    batch_size: Annotated[int, typer.Option(min=1)] = 16,
    learning_rate: Annotated[
        float | None, typer.Option(min=0, help="Default: the method's own for a base of this size.")
    ] = None,
    lora_rank: Annotated[int, typer.Option(min=0, help="Rank of the adapters; 0 trains all weights.")] = 16,
    max_length: Annotated[int | None, typer.Option(min=8, help="Longer rows, in tokens, are left out.")] = None,
) -> None:
    """Fine-tune a base on rows and on the same rows broken on purpose, and say whether they are worth training on."""
    from workbench import plots, share
    from workbench.records import Preference
    from workbench.train import compare as comparison
    from workbench.train.trl_runs import Settings

    with _told():
        records = share.load(rows)
        method = method or ("dpo" if records and isinstance(records[0], Preference) else "sft")
        settings = Settings(
            epochs=epochs,
            batch_size=batch_size,
            learning_rate=learning_rate,
            lora_rank=lora_rank,
            max_length=max_length,
        )
        plan = comparison.Plan(method=method, seeds=seeds, held_out=held_out_share, settings=settings)
        found = comparison.run(
            records, out=out, base=base, plan=plan, held_out=share.load(held_out) if held_out else ()
        )
        typer.echo(f"{found!r}\n")
        typer.echo(f"experiment  {out}")
        if picture := plots.png(plots.arms(found.arms, what=found.primary, of=found)):
            (out / "arms.png").write_bytes(picture)
            typer.echo(f"picture     {out / 'arms.png'}")


@app.command("experiments")
def experiments_(
    root: Annotated[Path, typer.Argument(help="The folder that runs, searches and trainings were written below.")],
    compare: Annotated[
        tuple[str, str] | None,
        typer.Option(
            help="Two of one kind, by id or folder: what differs, and what that changed; the first is the baseline."
        ),
    ] = None,
) -> None:
    """List every run, search and training below a folder, or compare two."""
    from workbench import experiments

    with _told():
        found = experiments.find(root)
        known = {one.id: one for one in found}
        typer.echo(repr(experiments.compare(*(known.get(name, name) for name in compare)) if compare else found))


argilla = typer.Typer(
    no_args_is_help=True, help="A real Argilla on this machine, for people to look at records: no Docker needed."
)
app.add_typer(argilla, name="argilla")
Folder = Annotated[Path, typer.Option(help="What it holds: the database, the credentials, a log.")]
_ARGILLA = Path("data/argilla")


@argilla.command()
def start(
    folder: Folder = _ARGILLA,
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes the last one, or any that is free.")] = 0,
) -> None:
    """Start the server, or find the one that runs; the first time, its environment is made (some 440 MB)."""
    from workbench import review

    with _told():
        server = review.start(folder, port=port)
        typer.echo(f"{server!r}\nlog in   {server.login_link()}")
    typer.echo("The link holds the owner's password: show it to nobody else.", err=True)


@argilla.command()
def stop(folder: Folder = _ARGILLA) -> None:
    """Stop the server; its data stay."""
    from workbench import review

    with _told():
        typer.echo(repr(review.stop(folder)))


@argilla.command()
def status(folder: Folder = _ARGILLA) -> None:
    """Say whether a server runs, where, since when, and how much memory it takes. Exits with 3 when none does."""
    from workbench import review

    with _told():
        found = review.status(folder)
    typer.echo(repr(found))
    if not found.is_running:
        raise typer.Exit(3)


def _budget(client, money: float | None, requests: int | None, place: str):
    from workbench import llm

    if money is not None and getattr(client, "price", None) is None:
        _fail(
            f"a --budget in dollars needs a price, and none is known for {place}. Cap requests instead: --max-requests 1000."
        )
    return llm.Budget(money=money, requests=requests) if (money, requests) != (None, None) else None


def _documents(docs: Path):
    from workbench import store

    documents = store.documents(docs)
    for name, why in documents.skipped:
        typer.secho(f"skipped {name}: {why}", fg="yellow", err=True)
    return documents


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
