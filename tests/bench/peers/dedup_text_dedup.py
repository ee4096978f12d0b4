"""text-dedup: its command, from a JSON file to a folder of Arrow files; reading, writing and the start of Python are in its time."""

import json
import resource
import subprocess
import sys
import time
from pathlib import Path

OPTIONS = "--split train --cache_dir cache --output kept --column text --idx_column id --ngram 1 --num_perm 128"
OPTIONS += " --min_length 1 --hash_func xxh3 --num_proc 2 --local"


def main() -> None:
    folder, threshold = Path(sys.argv[1]), sys.argv[2]
    texts = (folder / "texts.txt").read_text(encoding="utf-8").splitlines()
    source = folder / "source"
    source.mkdir(exist_ok=True)
    import datasets

    datasets.Dataset.from_dict({"id": list(range(len(texts))), "text": texts}).save_to_disk(str(source))
    started = time.perf_counter()
    command = [sys.executable, "-m", "text_dedup.minhash", "--path", str(source), "--threshold", threshold]
    done = subprocess.run([*command, *OPTIONS.split()], cwd=folder, capture_output=True, text=True)
    seconds = time.perf_counter() - started
    if done.returncode:
        sys.exit((done.stderr.strip().splitlines() or ["no message"])[-1])
    kept = set(datasets.load_from_disk(str(folder / "kept"))["id"])
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    found = {"seconds": seconds, "cpu_seconds": used.ru_utime + used.ru_stime, "peak_mb": used.ru_maxrss / 1024}
    print(json.dumps({**found, "before_mb": 0, "removed": sorted(set(range(len(texts))) - kept)}))


if __name__ == "__main__":
    main()
