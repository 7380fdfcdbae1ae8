"""Train the example models and register them; versions that are there already are left alone.

The registry is the one that `MLFLOW_TRACKING_URI` names. Training runs in a process of its own while this
one loads MLflow: each takes seconds.
"""

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

from stacks.models.trained import train_all


def main() -> None:
    """Register every version of every example."""
    with ProcessPoolExecutor(1, get_context("spawn")) as trainer:
        training = trainer.submit(train_all)
        from stacks.models.registration import register

        for version in training.result():
            print(register(version))


if __name__ == "__main__":
    main()
