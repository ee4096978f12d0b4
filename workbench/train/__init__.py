"""Proof by training: a base model fine-tuned on the data and on the same data broken on purpose, measured on rows held out.

    from workbench.train import compare, known, trl_runs
    found = compare.run(pairs, out="data/runs/worth", plan=compare.Plan(method="dpo"))
    found.verdict                     # "helps", "no evidence", "harms" or "confounded by length"
    trl_runs.dpo(pairs, out="data/runs/dpo")        # one training alone

`bases` has the model to start from and `trl_runs` trains it; `forms` makes lines of records, and `scoring` asks a model what
it makes of them. `splits` holds whole groups out, `controls` makes the arms, `compare` runs them all and `verdicts` says what
they allow to say. `learning` says what more rows buy. `known` makes data whose right answer is known."""
