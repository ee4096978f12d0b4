"""What an experiment does around its trainings: all arms alike, what decides written down first, nothing done twice."""

import hashlib
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest

from workbench import experiments, store
from workbench.errors import InputError, RunError
from workbench.records import QA, Instruction, Passage, Preference, Provenance, Span
from workbench.train import bases, compare, known, trl_runs
from workbench.train.compare import Measures, Plan, Task
from workbench.train.trl_runs import Settings

SETTINGS = Settings(learning_rate=2e-3, batch_size=8, max_length=96, beta=0.2)
PLAN = Plan(seeds=2, held_out=0.4, settings=SETTINGS, controls=("shuffled labels",))
MEASURES = Measures(texts=("Bread rises.", "A river runs.", "Bread rises."), answers=40, max_tokens=4)
ANSWERS = Plan(method="sft", seeds=1, settings=Settings(batch_size=8), controls=("mismatched answers",))


def pairs_of(pages):
    """40 pairs, and one that is too long for SETTINGS."""
    pairs = known.plain_or_hedged(pages, 40, seed=1)
    return [*pairs, replace(pairs[0], chosen="as a rule, " * 60)]


def questions_of(pages):
    """24 questions about as many passages, of 12 documents; every fourth cannot be answered, and two readers ask twice."""
    rows = []
    for at in range(24):
        page = pages[at % 12]
        span = Span(page.id, at, at + 120)
        is_answerable = bool(at % 4)
        rows.append(QA(
            f"What does line {at} say?", f"It says {at}." if is_answerable else None, None, Passage(page.text[at : at + 120], span),
            is_answerable=is_answerable, persona={0: "a baker", 5: "a baker", 2: "a nurse", 9: "a nurse"}.get(at),
        ))  # fmt: skip
    return rows


@pytest.fixture(scope="module")
def trained(bundled, tmp_path_factory):
    """One experiment of two treatments of several sizes, for all tests that only read: (folder, treatments, result)."""
    folder = tmp_path_factory.mktemp("experiments") / "pairs"
    pairs = pairs_of(bundled)
    treatments = {"all": pairs, "some of them": pairs[:30]}
    return folder, treatments, compare.run(treatments, out=folder, plan=PLAN, measures=MEASURES)


@pytest.fixture(scope="module")
def answered(bundled, tmp_path_factory):
    """One experiment of answers to questions: (folder, rows, result)."""
    folder, rows = tmp_path_factory.mktemp("experiments") / "answers", questions_of(bundled)
    task = Task("arithmetic", ("What is 1 + 1?", "What is 2 + 2?"), ("2", "4"), compare.exact_match)
    return folder, rows, compare.run(rows, out=folder, plan=ANSWERS, measures=Measures(task=task, max_tokens=4))


@pytest.fixture
def untrained(monkeypatch):
    """Training is refused; the rows of each that was wanted are kept."""
    wanted = []

    def refuse(rows, **_):
        wanted.append(rows)
        raise RunError("nothing is trained here")

    for method in trl_runs.METHODS:
        monkeypatch.setitem(trl_runs.METHODS, method, refuse)
    return wanted


def arms_of(folder):
    return {
        path.parent.relative_to(folder / "arms").as_posix(): trl_runs.read(path.parent)
        for path in folder.glob("arms/*/*/trained.json")
    }


def files_of(folder):
    """What is in each file, and when it was written."""
    return {
        path.relative_to(folder).as_posix(): (hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_mtime_ns)
        for path in sorted(folder.rglob("*")) if path.is_file() and path.name != ".lock"
    }  # fmt: skip


def values_of(items, arm, seed, metric):
    return {
        row["item"]: row["value"]
        for row in items.to_pylist()
        if (row["arm"], row["seed"], row["metric"]) == (arm, seed, metric)
    }


# --- all arms alike -----------------------------------------------------------------------------------------------------


def test_arms_see_as_many_rows_tokens_and_steps_and_nothing_of_what_is_held_out(trained):
    folder, treatments, found = trained
    arms = arms_of(folder)
    assert set(arms) == {f"{arm}/seed-{seed}" for arm in ("all", "some-of-them", "shuffled-labels") for seed in (0, 1)}
    assert len({(one.rows, one.steps) for one in arms.values()}) == 1
    tokens = {one.tokens for one in arms.values()}
    assert max(tokens) - min(tokens) <= 0.001 * min(tokens)
    one = arms["all/seed-0"]
    assert found.experiment.settings["equal"] == {"rows": one.rows, "tokens": one.tokens}
    # A treatment is the same under each seed, and labels are dealt out anew.
    assert arms["all/seed-0"].data == arms["all/seed-1"].data != arms["some-of-them/seed-0"].data
    assert arms["shuffled-labels/seed-0"].data != arms["shuffled-labels/seed-1"].data
    assert {one.seed for one in arms.values()} == {0, 1}
    # The split is by document, and what was brought to the size of the other set is counted.
    held = store.read(folder / "held_out.parquet")
    documents = {row.provenance.source.document_id for row in held}
    left = [row for row in treatments["all"][:40] if row.provenance.source.document_id not in documents]
    assert len(left) + len(held) == 40
    some = [row for row in left if row in treatments["some of them"]]
    assert one.rows == len(some) < len(left)
    assert found.experiment.settings["left_out"] == {
        "too_long": 1,
        "held_out_beyond_max": 0,
        "to_make_arms_equal": len(left) - len(some),
    }


def test_every_arm_is_measured_on_the_same_items_by_every_metric(trained):
    _, _, found = trained
    rows = found.items.to_pylist()
    of = {}
    for row in rows:
        of.setdefault((row["arm"], row["seed"], row["metric"]), []).append((row["item"], row["group"]))
    names = ("probability", "margin", "accuracy", "likelier", "text loss", "answer characters")
    runs = [("base", None), *((arm, seed) for arm in ("all", "some of them", "shuffled labels") for seed in (0, 1))]
    lengths = of.pop(("base", None, "chosen is longer"))  # of the pairs, whatever the model
    assert lengths == of["base", None, "margin"] and set(of) == {
        (arm, seed, name) for arm, seed in runs for name in names
    }
    for name in names:
        assert len({tuple(of[arm, seed, name]) for arm, seed in runs}) == 1
    assert [len(of["base", None, name]) for name in names] == [16, 16, 16, 16, 2, 16]
    # Nothing is there twice, and an item is of one group whatever is measured of it.
    assert len({(row["arm"], row["seed"], row["item"], row["metric"]) for row in rows}) == len(rows)
    groups = dict(of["base", None, "probability"])
    assert all(groups[item] == group for item, group in of["base", None, "answer characters"])
    assert any(item != group for item, group in of["base", None, "answer characters"])  # some of them are no row's own


# --- what is measured, computed otherwise -------------------------------------------------------------------------------


def opened(folder=None):
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    base = bases.load().folder
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    return (PeftModel.from_pretrained(model, folder) if folder else model).eval(), AutoTokenizer.from_pretrained(base)


def answer_log_probs(model, tokenizer, asked, answer):
    """The log-probability of each token of an answer, one row at a time and without padding."""
    import torch

    turns = [{"role": "user", "content": asked}, {"role": "assistant", "content": answer}]
    start = tokenizer(tokenizer.apply_chat_template(turns[:1], tokenize=False, add_generation_prompt=True))["input_ids"]
    ids = tokenizer(tokenizer.apply_chat_template(turns, tokenize=False))["input_ids"]
    assert ids[: len(start)] == start
    with torch.no_grad():
        found = model(torch.tensor([ids])).logits[0].log_softmax(-1)
    return np.array([found[at - 1, ids[at]].item() for at in range(len(start), len(ids))])


def test_metrics_of_pairs_are_what_log_probabilities_of_the_bare_models_give(trained):
    folder, _, found = trained
    held = store.read(folder / "held_out.parquet")
    base, tokenizer = opened()
    model, _ = opened(folder / "arms" / "all" / "seed-1")
    gain = lambda row, text: both(row, text)[0] - both(row, text)[1]
    both = lambda row, text: [answer_log_probs(each, tokenizer, row.prompt, text).sum() for each in (model, base)]
    margin = {row.id: 0.2 * (gain(row, row.chosen) - gain(row, row.rejected)) for row in held}
    likelier = {row.id: float(both(row, row.chosen)[0] > both(row, row.rejected)[0]) for row in held}
    close = lambda values: pytest.approx(values, abs=2e-4)
    of = lambda metric: values_of(found.items, "all", 1, metric)
    assert np.ptp(list(margin.values())) > 0.1  # or any sign would do
    assert of("margin") == close(margin)
    assert of("probability") == close({item: 1 / (1 + np.exp(-value)) for item, value in margin.items()})
    assert of("accuracy") == {item: float(value > 0) for item, value in margin.items()}
    assert of("likelier") == likelier and len(set(likelier.values())) == 2
    first = {row.id: float(both(row, row.chosen)[1] > both(row, row.rejected)[1]) for row in held}
    assert values_of(found.items, "base", None, "likelier") == first
    assert set(values_of(found.items, "base", None, "probability").values()) == {0.5}
    assert set(values_of(found.items, "base", None, "margin").values()) == {0.0}


def test_losses_are_those_of_the_bare_models_and_of_answers_alone(answered):
    folder, _, found = answered
    held = store.read(folder / "held_out.parquet")
    for arm, seed in (("base", None), ("all", 0)):
        model, tokenizer = opened(folder / "arms" / "all" / "seed-0" if arm == "all" else None)
        expected = {row.id: -answer_log_probs(model, tokenizer, row.asked, row.output).mean() for row in held}
        assert values_of(found.items, arm, seed, "loss") == pytest.approx(expected, abs=1e-4)


# --- answers ------------------------------------------------------------------------------------------------------------


def test_questions_are_trained_on_as_instructions_and_a_reader_is_on_one_side(answered):
    folder, rows, found = answered
    held = store.read(folder / "held_out.parquet")
    parents = {row.provenance.parents[0] for row in held}
    sides = {
        row.persona: {row.id in parents, other.id in parents}
        for row in rows
        for other in rows
        if row.persona and row.persona == other.persona
    }
    assert len(sides) == 2 and all(len(side) == 1 for side in sides.values())
    assert {row.passage.span.document_id for row in rows if row.id in parents}.isdisjoint(
        row.passage.span.document_id for row in rows if row.id not in parents
    )
    arms = arms_of(folder)
    assert len({(one.rows, one.steps, one.tokens) for one in arms.values()}) == 1 and len(arms) == 2
    assert found.experiment.settings["equal"]["rows"] == 24 - len(held)
    # That they cannot be answered ties no questions together: it would be the same text.
    assert any(not row.is_answerable for row in rows if row.id in parents)
    assert any(not row.is_answerable for row in rows if row.id not in parents)
    assert found.verdict == "no evidence" and "One seed shows nothing about other seeds" in found.findings[0].reason
    assert found.primary == "loss" and "loss" in repr(found)


def test_a_task_is_scored_on_every_arm(answered):
    _, _, found = answered
    scores = [row for row in found.items.to_pylist() if row["metric"] == "arithmetic"]
    assert len(scores) == 6 and {row["value"] for row in scores} <= {0.0, 1.0}
    assert [row["group"] for row in scores] == [row["item"] for row in scores]


def test_instructions_are_taken_as_they_are(tmp_path, untrained):
    rows = [Instruction(f"Say {at}", output=f"It is {at}") for at in range(20)]
    with pytest.raises(RunError, match="nothing is trained"):
        compare.run(rows, out=tmp_path, plan=ANSWERS)
    assert len(untrained[0]) == 14 and set(untrained[0]) < set(rows)


@pytest.mark.parametrize(
    ("written", "wanted", "score"),
    [
        ("The Eiffel Tower.", "eiffel tower", 1), ("an  apple\n", "Apple!", 1), ("a", "the", 0), ("", "A", 0), ("a", "A", 1), ("", "", 1), ("42", "42.0", 0),
        ("theatre", "atre", 0), ("Anna", "na", 0), ("well-known", "wellknown", 1), ("well known", "wellknown", 0), ("U.S.", "us", 1),
        ("Straße", "Strasse", 0), ("not in 1990", "1990", 0), ("don't", "dont", 1), ("“yes”", "yes", 0),
    ],
)  # fmt: skip
def test_exact_match_is_as_squad_publishes_it_but_for_texts_that_are_an_article_alone(written, wanted, score):
    assert compare.exact_match(written, wanted) == compare.exact_match(wanted, written) == score


# --- what decides is written down first ---------------------------------------------------------------------------------


def test_what_decides_is_filed_before_anything_is_trained_and_kept_to(bundled, tmp_path, untrained):
    pairs, plan = pairs_of(bundled), replace(PLAN, primary="accuracy")
    with pytest.raises(RunError, match="nothing is trained"):
        compare.run(pairs, out=tmp_path, plan=plan)
    begun = experiments.read(tmp_path)
    assert begun.status == "unfinished" and begun.kind == "training" and begun.name == "dpo of tiny-base@1"
    assert begun.settings["primary_metric"] == "accuracy" and begun.settings["plan"]["seeds"] == 2
    assert (
        begun.settings["arms"] == ["base", "all", "shuffled labels"]
        and begun.settings["plan"]["settings"]["learning_rate"] == 2e-3
    )
    assert set(begun.settings["data"]) == {"all", "held_out"}
    content = (tmp_path / experiments.FILE).read_bytes()
    for rows, other, measures, differing in (
        (pairs, replace(plan, primary="margin"), Measures(), "primary_metric, plan"),
        (pairs, replace(plan, seeds=3), Measures(), "plan"),
        (pairs, replace(plan, settings=replace(SETTINGS, beta=0.1)), Measures(), "plan"),
        (pairs[2:], plan, Measures(), "data"),
        (pairs, plan, MEASURES, "measures"),
    ):
        with pytest.raises(InputError, match=f"was begun with another .*{differing}.*folder of its own"):
            compare.run(rows, out=tmp_path, plan=other, measures=measures)
    assert (tmp_path / experiments.FILE).read_bytes() == content and len(untrained) == 1
    with pytest.raises(RunError, match="holds a training that is unfinished"):
        compare.read(tmp_path)


@pytest.mark.parametrize(
    ("plan", "known_ones"),
    [
        (Plan(primary="loss"), "probability, margin, accuracy, likelier"), (Plan(primary="text loss"), "likelier"),
        (Plan(primary="answer characters"), "likelier"), (Plan(method="sft", primary="accuracy"), "loss"),
        (Plan(method="reward", primary="likelier"), "probability, margin, accuracy"),
    ],
)  # fmt: skip
def test_a_primary_metric_that_nothing_would_measure_is_refused_before_anything_is_done(
    plan, known_ones, tmp_path, untrained
):
    with pytest.raises(
        InputError, match=rf"'{plan.primary}' cannot decide an experiment of {plan.method}; what can is .*{known_ones}"
    ):
        compare.run([Preference("a", "b", "c")], out=tmp_path / "new", plan=plan)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("name", ["half twice", "half-twice", "Base", "", "../up", "a/b", "<b>", ".hidden", "a\nb"])
def test_a_treatment_that_cannot_have_a_folder_of_its_own_is_refused(name, tmp_path, untrained):
    with pytest.raises(InputError, match=r"is the name of a control|cannot name a folder"):
        compare.run({name: [Preference("a", "b", "c")]}, out=tmp_path / "new", plan=PLAN)
    with pytest.raises(InputError, match=r"'my set' is the name of a folder that 'My-set' has too"):
        compare.run(
            {each: [Preference("a", "b", "c")] for each in ("My-set", "my set")}, out=tmp_path / "new", plan=PLAN
        )


def test_a_task_may_not_have_the_name_of_another_metric():
    for name in ("likelier", "answer characters", "loss", "my loss"):
        with pytest.raises(InputError, match="has the name of another metric, or of a loss"):
            Task(name, ("a",), ("b",), compare.exact_match)


def test_a_control_that_cannot_be_as_long_is_found_out_before_anything_is_trained(bundled, tmp_path, untrained):
    rows = [Preference(f"Number {at}?", "word " * size, "no") for at, size in enumerate((1, 3, 9, 27, 70, 2))]
    apart = known.plain_or_hedged(bundled, 12)
    with pytest.raises(
        RunError, match=r"arm 'half twice' has \d+ rows and \d+ tokens an epoch, and the others .* controls="
    ):
        compare.run(rows, out=tmp_path / "new", plan=replace(PLAN, controls=None), held_out=apart)
    assert not untrained and not (tmp_path / "new").exists()


# --- what is held out ---------------------------------------------------------------------------------------------------


def test_given_rows_are_measured_on_once_each_and_may_share_nothing_with_the_others(bundled, tmp_path, untrained):
    pairs = known.plain_or_hedged(bundled, 60)
    document = pairs[0].provenance.source.document_id
    is_of = lambda row: row.provenance.source.document_id == document
    apart, rest = [row for row in pairs if is_of(row)], [row for row in pairs if not is_of(row)]
    with pytest.raises(RunError, match="nothing is trained"):
        compare.run(rest, out=tmp_path / "apart", plan=PLAN, held_out=[*apart, apart[0]])
    assert store.read(tmp_path / "apart" / "held_out.parquet") == apart
    assert set(untrained[0]) == set(rest)
    with pytest.raises(
        InputError, match=rf"1 held-out rows share something .*: document {document} is in train \(row {apart[1].id}\)"
    ):
        compare.run([apart[1], *rest], out=tmp_path / "leaking", plan=PLAN, held_out=apart[:1])
    assert not (tmp_path / "leaking").exists()


def test_rows_tied_by_one_that_is_not_measured_stay_one_group(bundled, tmp_path, untrained):
    origin = lambda *parents: Provenance("by hand", parents=parents)
    tied = [
        Preference(f"Ask {at}", f"yes {at}", f"no {at}", provenance=origin(f"p{at}", f"p{at + 1}")) for at in range(6)
    ]
    alone = [Preference(f"Say {at}", f"good {at}", f"bad {at}") for at in range(20)]
    groups = []
    for most in (6, 3):
        plan = replace(PLAN, max_held_out=most)
        with pytest.raises(RunError, match="nothing is trained"):
            compare.run(alone, out=tmp_path / str(most), plan=plan, held_out=tied)
        groups.append(
            set(pq.read_table(tmp_path / str(most) / "arms" / "base" / "measured.parquet")["group"].to_pylist())
        )
    assert len(groups[0]) == len(groups[1]) == 1


# --- nothing is done twice ----------------------------------------------------------------------------------------------


def test_the_same_call_reads_what_is_there_and_reading_does_too(trained):
    folder, treatments, found = trained
    before = files_of(folder)
    again = compare.run(treatments, out=folder, plan=PLAN, measures=MEASURES)
    after = files_of(folder)
    assert {name: content for name, (content, _) in after.items()} == {
        name: content for name, (content, _) in before.items()
    }
    assert {name for name in after if after[name] != before[name]} <= {
        "experiment.json",
        "items.parquet",
        "held_out.parquet",
    }
    for other in (again, compare.read(folder)):
        assert other == found and other.items.equals(found.items) and repr(other) == repr(found)


def test_a_second_call_that_goes_wrong_leaves_what_was_finished(trained, untrained):
    folder, treatments, found = trained
    with pytest.raises(RunError, match="nothing is trained"):
        compare.run(treatments, out=folder, plan=PLAN, measures=MEASURES)
    assert compare.read(folder) == found


def test_what_was_damaged_or_deleted_is_made_again_with_the_same_numbers(trained):
    folder, treatments, found = trained
    arms = folder / "arms"
    (arms / "all" / "seed-0" / "measured.parquet").write_bytes(b"PAR1 and no more")
    (arms / "shuffled-labels" / "seed-1" / "measured.parquet").unlink()
    (arms / "base" / "log_probs.npy").unlink()
    (arms / "some-of-them" / "seed-0" / "trained.json").unlink()
    (folder / "items.parquet").unlink()
    before = files_of(folder)
    again = compare.run(treatments, out=folder, plan=PLAN, measures=MEASURES)
    assert again.items.equals(found.items) and again.findings == found.findings
    after = files_of(folder)
    kept = [
        name for name in before if name.startswith("arms/all/seed-1") or name.startswith("arms/some-of-them/seed-1")
    ]
    assert kept and all(before[name] == after[name] for name in kept)
    assert (arms / "some-of-them" / "seed-0" / "trained.json").exists() and (arms / "base" / "log_probs.npy").exists()


def test_a_folder_that_cannot_be_made_is_named(bundled, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match=r"cannot make .*file/new: .*out= a folder that can be written"):
        compare.run(known.plain_or_hedged(bundled, 20), out=tmp_path / "file" / "new", plan=PLAN)


# --- what others read ---------------------------------------------------------------------------------------------------


def test_it_is_found_among_experiments_with_its_scores_and_verdict(trained):
    folder, _, found = trained
    (listed,) = experiments.find(folder)
    one = experiments.read(folder)
    assert one.id == listed.id == found.experiment.id and one.status == "finished" and one.model == "tiny-base@1"
    assert (one.settings["verdict"], one.settings["reason"]) == (found.verdict, found.findings[0].reason)
    assert list(one.settings["verdicts"]) == list(one.settings["reasons"]) == ["all", "some of them"]
    values = [value for seed in (0, 1) for value in values_of(found.items, "all", seed, "probability").values()]
    assert (
        one.score["part"] == "all"
        and one.score["prompt"] == "all"
        and one.score["value"] == pytest.approx(np.mean(values))
    )
    assert len(experiments.steps(folder)) == sum(one.steps for one in arms_of(folder).values())
    said = experiments.compare(one, replace(one, id="another"))
    assert {row["difference"] for row in said.differences.to_pylist()} == {0.0}
    assert any(f"found of its own data: {found.verdict}. " in note for note in said.notes())


def test_a_result_shows_each_arm_and_escapes_what_it_shows(trained):
    _, _, found = trained
    text, html = repr(found), found._repr_html_()
    for row in found.arms:
        assert row["arm"] in text and row["arm"] in html and f"{row['value']:.3f}" in text
        assert row["is_control"] == (row["arm"] in ("base", "shuffled labels")) and len(row["seeds"]) == (
            0 if row["arm"] == "base" else 2
        )
    assert f"all: {found.verdict}. {found.findings[0].reason}" in text
    odd = replace(
        found,
        experiment=replace(found.experiment, name="<b>x"),
        findings=tuple(replace(each, reason="<i>y") for each in found.findings),
    )
    assert "&lt;b&gt;x" in odd._repr_html_() and "<b>x" not in odd._repr_html_() and "<i>y" not in odd._repr_html_()
