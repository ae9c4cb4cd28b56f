"""The first result of a parallel run in a fresh process."""

import rivers as rs


@rs.Asset
def one() -> int:
    """Answer."""
    return 1


if __name__ == "__main__":
    with rs.CodeRepository([one], default_executor=rs.Executor.parallel(2)) as repository:
        repository.materialize()
        print(repository.load_node("one"))
