#!/usr/bin/env python3
"""One flowgraph in one process: WAV file -> FIR filter -> rational resampler -> WAV file of 32-bit floats.

Prints one JSON object: {"seconds": ..., "version": ...}, the time of the flowgraph alone, without Python's start.
Run with the system's Python, for which Debian's `gnuradio` package installs the module:

    /usr/bin/python3 resample.py IN.wav OUT.wav --taps taps.txt --interpolation 147 --decimation 160
"""

import argparse
import json
import time

from gnuradio import blocks, filter, gr


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("input")
    parser.add_argument("output")
    parser.add_argument("--taps", required=True, help="a text file with the taps of the FIR filter")
    parser.add_argument("--interpolation", type=int, required=True)
    parser.add_argument("--decimation", type=int, required=True)
    parser.add_argument("--attenuation-db", type=float, help="another resampling filter than the default one")
    args = parser.parse_args()
    with open(args.taps) as file:
        taps = [float(tap) for tap in file.read().split()]

    top = gr.top_block()
    source = blocks.wavfile_source(args.input, False)
    rate = source.sample_rate() * args.interpolation // args.decimation
    resampling_taps = []
    if args.attenuation_db:
        # The same transition as ours: from 0.484 to 0.5 of the lower rate.
        fastest = args.interpolation
        lower = min(1.0, args.interpolation / args.decimation)
        resampling_taps = filter.firdes.low_pass_2(
            args.interpolation, fastest, 0.492 * lower, 0.016 * lower, args.attenuation_db, 5, 13.0
        )
    top.connect(
        source,
        filter.fir_filter_fff(1, taps),
        filter.rational_resampler_fff(
            interpolation=args.interpolation, decimation=args.decimation, taps=resampling_taps
        ),
        blocks.wavfile_sink(args.output, 1, rate, blocks.FORMAT_WAV, blocks.FORMAT_FLOAT, False),
    )
    start = time.perf_counter()
    top.run()
    seconds = time.perf_counter() - start
    print(json.dumps({"seconds": seconds, "version": gr.version()}))


if __name__ == "__main__":
    main()
