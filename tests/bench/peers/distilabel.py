"""distilabel: LoadDataFromDicts >> TextGeneration(OpenAILLM), its cache folder in the work folder.

It has no setting for requests in flight: one step process sends a whole input batch at once and waits
for all of it, so the batch size is the concurrency. Run as a module, so that `distilabel` means the library.
"""

from pathlib import Path

from distilabel.models import OpenAILLM
from distilabel.pipeline import Pipeline
from distilabel.steps import LoadDataFromDicts
from distilabel.steps.tasks import TextGeneration

from tests.bench.peers import common

BATCH = 64


def prepare(rows: int, base_url: str, work: Path):
    data = [{"instruction": common.prompt(index)} for index in range(rows)]
    with Pipeline("bench", cache_dir=work / "cache") as pipeline:
        load = LoadDataFromDicts(data=data, batch_size=BATCH)
        llm = OpenAILLM(model=common.MODEL, base_url=base_url, api_key="none")
        load >> TextGeneration(llm=llm, input_batch_size=BATCH)

    def run() -> int:
        distiset = pipeline.run(use_cache=True)
        texts = distiset["default"]["train"]["generation"]
        return sum(text is not None for text in texts)

    return run


if __name__ == "__main__":
    common.main(run=prepare)
