"""`python -m tests.bench.clusters [rows ...]`: UMAP and HDBSCAN beside k-means, PCA and HDBSCAN, and EVoC, on vectors of known clusters.

100 gaussians in 384 dimensions, of length one; 10,000 and 50,000 rows unless others are named. k-means is told the number of
clusters. Each way runs in a process of its own: after 2,000 rows that import and compile; peak memory is the process's.
"ARI" is of all rows, noise as a cluster of its own. EVoC runs where it is installed."""

import importlib.util
import json
import resource
import subprocess
import sys
import time

import numpy as np

KINDS, SIZE, SEED = 100, 384, 1
WAYS = ("workbench", "umap + hdbscan", "k-means", "pca 50 + hdbscan", "evoc")


def vectors(rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors, (rows, SIZE), and the cluster of each: some of them large, some small, some near to each other."""
    rng = np.random.default_rng(SEED)
    shares = rng.dirichlet(np.full(KINDS, 2.0))
    truth = rng.choice(KINDS, rows, p=shares)
    centres = rng.standard_normal((KINDS, SIZE)) / np.sqrt(SIZE)
    found = centres[truth] + 0.9 * rng.standard_normal((rows, SIZE)) / np.sqrt(SIZE)
    return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32), truth


def labels(way: str, given: np.ndarray) -> np.ndarray:
    """The clusters that one way finds; noise is -1."""
    rows = len(given)
    if way == "workbench":  # keywords and the 2-d map among it
        from workbench import clusters

        return clusters.fit([f"row {at}" for at in range(rows)], vectors=given).labels
    if way == "umap + hdbscan":  # as their documentation has it
        import hdbscan
        import umap

        low = umap.UMAP(n_components=5, min_dist=0.0, metric="cosine", random_state=SEED).fit_transform(given)
        return hdbscan.HDBSCAN(min_cluster_size=max(10, rows // 400)).fit_predict(low)
    if way == "k-means":
        from sklearn.cluster import MiniBatchKMeans

        return MiniBatchKMeans(KINDS, random_state=SEED).fit_predict(given)
    if way == "pca 50 + hdbscan":
        import hdbscan
        from sklearn.decomposition import PCA

        low = PCA(50, random_state=SEED).fit_transform(given)
        return hdbscan.HDBSCAN(min_cluster_size=max(10, rows // 400)).fit_predict(low)
    import evoc

    return evoc.EVoC(random_state=SEED).fit_predict(given)


def one(way: str, rows: int) -> dict[str, float]:
    """What one way finds in so many rows, how well, and what it took."""
    from workbench.clusters import adjusted_rand

    given, truth = vectors(rows)
    labels(way, given[:2_000])  # imports and compiles
    started, wall = time.process_time(), time.perf_counter()
    found = labels(way, given)
    return {
        "seconds": time.perf_counter() - wall,
        "cpu": time.process_time() - started,
        "mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "clusters": len(set(found.tolist()) - {-1}),
        "noise": float((found == -1).mean()),
        "ari": adjusted_rand(truth, found),
    }


def main() -> None:
    if sys.argv[1:2] == ["--one"]:
        print(json.dumps(one(sys.argv[2], int(sys.argv[3]))))
        return
    print(f"{'rows':>8}  {'':18}{'ARI':>6}{'clusters':>10}{'noise':>8}{'cpu s':>8}{'wall s':>8}{'MB':>8}")
    for rows in [int(each) for each in sys.argv[1:]] or [10_000, 50_000]:
        for way in WAYS:
            if way == "evoc" and importlib.util.find_spec("evoc") is None:
                print(f"{rows:>8,}  {way:18}  not installed")
                continue
            command = [sys.executable, "-m", "tests.bench.clusters", "--one", way, str(rows)]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                print(f"{rows:>8,}  {way:18}  failed: {done.stderr.strip().splitlines()[-1][:100]}")
                continue
            r = json.loads(done.stdout.splitlines()[-1])
            print(
                f"{rows:>8,}  {way:18}{r['ari']:6.3f}{r['clusters']:>10,}{r['noise']:8.1%}{r['cpu']:8.1f}{r['seconds']:8.1f}{r['mb']:8.0f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
