"""The command line: the only place that knows the command line library and the painter of tables."""

import sys
from collections.abc import Sequence


def main(words: Sequence[str] | None = None) -> int:
    """What `tunesmith WORDS` does.

    Returns the exit code: 0 done, 1 the answer is no or the work failed, 2 asked wrongly, 130 stopped by Ctrl-C.
    """
    from tunesmith.cli.door import answer

    return answer([*(sys.argv[1:] if words is None else words)])
