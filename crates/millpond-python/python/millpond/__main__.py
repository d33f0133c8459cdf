"""`python -m millpond [--types SOURCE ...] COMMAND`: a program with the block types that come with Millpond and those in the
sources. `Flowgraph` starts it for its processes; pipeline files can name it, too.

A source is `FILE.py`, `DIRECTORY:MODULE` for a module of a package in an absolute directory (`--types /srv/app:filters.gain`), or
`MODULE` for one that Python finds by itself.
"""

import sys
from typing import NoReturn

from millpond._blocks import _main, load_types


def main(given: list[str]) -> NoReturn:
    """Reads the sources and does what the command says."""
    while given[:1] == ["--types"] and len(given) > 1:
        load_types(given[1])
        del given[:2]
    _main(given, with_builtin=True)


if __name__ == "__main__":
    main(sys.argv[1:])
