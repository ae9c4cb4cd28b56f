"""The first result of raw loky in a fresh process, with the imports of `first_rivers.py` on both sides."""

from loky import ProcessPoolExecutor

import rivers as rs


def one() -> int:
    """Import rivers in the worker, and return."""

    return rs.StepState.SUCCEEDED is not None


if __name__ == "__main__":
    with ProcessPoolExecutor(2) as executor:
        print(executor.submit(one).result())
