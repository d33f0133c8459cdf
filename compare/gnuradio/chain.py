#!/usr/bin/env python3
"""One flowgraph in one process: null source -> N copy blocks -> head -> null sink, of float items.

Prints one JSON object: {"items": ..., "seconds": ..., "items_per_s": ..., "version": ...}.
Run with the system's Python, for which Debian's `gnuradio` package installs the module:

    /usr/bin/python3 chain.py --stages 5 --items 1000000000
"""

import argparse
import json
import time

from gnuradio import blocks, gr


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stages", type=int, required=True)
    parser.add_argument("--items", type=int, required=True)
    args = parser.parse_args()

    top = gr.top_block()
    chain = [blocks.null_source(gr.sizeof_float)]
    chain += [blocks.copy(gr.sizeof_float) for _ in range(args.stages)]
    chain += [blocks.head(gr.sizeof_float, args.items), blocks.null_sink(gr.sizeof_float)]
    top.connect(*chain)

    start = time.perf_counter()
    top.run()
    seconds = time.perf_counter() - start
    result = {
        "items": args.items,
        "seconds": seconds,
        "items_per_s": args.items / seconds,
        "version": gr.version(),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
