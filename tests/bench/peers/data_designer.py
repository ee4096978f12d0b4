"""data-designer: one LLM text column over an ordered seed data set, from an OpenAI-compatible provider.

64 parallel requests, no model health check, no metrics endpoint, all else as it comes. Run as a module,
so that `data_designer` means the library.
"""

from pathlib import Path

import data_designer.config as dd
import pandas as pd
from data_designer.config.run_config import ResumeMode
from data_designer.interface import DataDesigner

from tests.bench.peers import common


def prepare(rows: int, base_url: str, work: Path):
    seeds = work / "seeds.parquet"
    if not seeds.exists():
        pd.DataFrame({"passage": [common.prompt(index) for index in range(rows)]}).to_parquet(seeds)
    model = dd.ModelConfig(
        alias="bench",
        model=common.MODEL,
        provider="local",
        inference_parameters=dd.ChatCompletionInferenceParams(max_parallel_requests=common.CONCURRENCY),
        skip_health_check=True,
    )
    builder = dd.DataDesignerConfigBuilder(model_configs=[model])
    builder.with_seed_dataset(dd.LocalFileSeedSource(path=str(seeds)), sampling_strategy=dd.SamplingStrategy.ORDERED)
    builder.add_column(dd.LLMTextColumnConfig(name="text", model_alias="bench", prompt="{{ passage }}"))
    provider = dd.ModelProvider(name="local", endpoint=base_url, api_key="none")

    designer = DataDesigner(artifact_path=work / "artifacts", model_providers=[provider])
    designer.set_run_config(dd.RunConfig(otel_metrics_port=None))

    def run() -> int:
        result = designer.create(builder, num_records=rows, dataset_name="bench", resume=ResumeMode.IF_POSSIBLE)
        return int(result.load_dataset()["text"].notna().sum())

    return run


if __name__ == "__main__":
    common.main(run=prepare)
