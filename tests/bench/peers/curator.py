"""bespokelabs-curator: curator.LLM on its openai backend, cache in the work folder, viewer and telemetry off.

64 concurrent requests; its limits on requests and tokens a minute are set out of the way. It wants a token
encoding from the network before the first request; litellm, which it depends on, ships that file, so it
is pointed there.
"""

import importlib.util
import os
from pathlib import Path

LITELLM = Path(importlib.util.find_spec("litellm").submodule_search_locations[0])
os.environ["TIKTOKEN_CACHE_DIR"] = str(LITELLM / "litellm_core_utils" / "tokenizers")

from bespokelabs import curator

from tests.bench.peers import common


def prepare(rows: int, base_url: str, work: Path):
    prompts = [common.prompt(index) for index in range(rows)]
    llm = curator.LLM(
        model_name=common.MODEL,
        backend="openai",
        backend_params={
            "base_url": base_url,
            "api_key": "none",
            "max_concurrent_requests": common.CONCURRENCY,
            "max_requests_per_minute": 10_000_000,
            "max_tokens_per_minute": 100_000_000_000,
        },
    )

    def run() -> int:
        response = llm(prompts, working_dir=str(work / "cache"))
        return sum(row["response"] is not None for row in response.dataset)

    return run


if __name__ == "__main__":
    common.main(run=prepare)
