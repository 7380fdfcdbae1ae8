"""ONNX Runtime without a server: the ceiling. Run pinned, in a process of its own; prints JSON."""

import itertools
import json
import sys
import time
from pathlib import Path

import numpy as np

from benchmarks.serving.models import INPUT, make


def rate(session: object, batches: list[np.ndarray], seconds: float) -> float:
    """Rows a second."""
    run = session.run  # type: ignore[attr-defined]
    done, spent, start = 0, 0.0, time.perf_counter()
    for batch in itertools.cycle(batches):
        run(None, {INPUT: batch})
        done += len(batch)
        if (spent := time.perf_counter() - start) > seconds:
            break
    return done / spent


def main() -> None:
    folder, seconds, *names = sys.argv[1:]
    out = {}
    for name, model in make(Path(folder)).items():
        if name in names:
            rows, session = model.rows(), model.session()
            out[name] = {
                "alone.rate": rate(session, [row[None] for row in rows], float(seconds)),
                "alone32.rate": rate(
                    session, [rows[i : i + 32] for i in range(0, len(rows), 32)], float(seconds)
                ),
            }
    print(json.dumps(out))


if __name__ == "__main__":
    main()
