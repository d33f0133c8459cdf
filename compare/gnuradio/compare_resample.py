#!/usr/bin/env python3
"""Filtering and resampling a WAV file: Millpond and GNU Radio side by side, in one run.

60 s of noise at 48 kHz, as 32-bit floats, go through a FIR filter of 64 taps and on to 44.1 kHz, file to file. Both sides take
turns, round by round, and of both the same two times are taken:

    flowgraph  GNU Radio's `top.run()`; Millpond's `seconds` of `run --json`, from the start of its process to that one's end
    process    the whole program, seen from outside: Python's start and imports included

Before anything counts, both outputs are held against scipy, so that nobody is fast by being wrong.

Needs Debian's packages `gnuradio` and `python3-scipy`, and `cargo build --release -p millpond-cli` in the main workspace.
Run with /usr/bin/python3. The exit status is 0 when each ratio is as asked, 3 when one is not, 1 when something could not be
measured.
"""

import argparse
import json
import os
import pathlib
import statistics
import sys
import tempfile
import time
import warnings

import numpy
import scipy.io.wavfile
import scipy.signal

from compare import HERE, MILLPOND, PYTHON, run

# What is asked: our time divided by GNU Radio's, of the same kind.
ASKED = 0.5
RATE_HZ, INTERPOLATION, DECIMATION = 48_000, 147, 160
TAPS = 64
# Samples of the output that are held against scipy.
PART = 2**18
PIPELINE = """name = "resample-{pid}"
connect = ["source -> fir -> resampler -> sink"]
[blocks.source]
type = "wav-source"
path = "in.wav"
[blocks.fir]
type = "fir"
taps_path = "taps.txt"
[blocks.resampler]
type = "resampler"
rate_hz = {rate_hz}
[blocks.sink]
type = "wav-sink"
path = "millpond.wav"
"""


def prepare(directory, seconds):
    """Writes the input, the taps and the pipeline; returns what the filtered input is."""
    noise = numpy.random.default_rng(1).uniform(-0.5, 0.5, RATE_HZ * seconds).astype(numpy.float32)
    scipy.io.wavfile.write(directory / "in.wav", RATE_HZ, noise)
    # What passes ends well below half of either rate, so that two good resamplers agree on all of it.
    taps = scipy.signal.firwin(TAPS, 0.4, window=("kaiser", 14))
    (directory / "taps.txt").write_text("\n".join(map(repr, taps.tolist())) + "\n")
    out_hz = RATE_HZ * INTERPOLATION // DECIMATION
    (directory / "pipeline.toml").write_text(PIPELINE.format(pid=os.getpid(), rate_hz=out_hz))
    return scipy.signal.lfilter(taps, [1.0], noise.astype(numpy.float64))


def timed(command, directory):
    # Ponds are found in memory, as with the default directory.
    with tempfile.TemporaryDirectory(prefix="millpond-compare-", dir="/dev/shm") as ponds:
        return timed_in(command, directory, {**os.environ, "MILLPOND_RUNTIME_DIR": ponds})


def timed_in(command, directory, environment):
    start = time.perf_counter()
    shown = run(command, env=environment, cwd=directory)
    return {**json.loads(shown), "process": time.perf_counter() - start}


def gnuradio(directory, attenuation_db):
    command = [PYTHON, HERE / "resample.py", "in.wav", "gnuradio.wav", "--taps", "taps.txt"]
    command += ["--interpolation", str(INTERPOLATION), "--decimation", str(DECIMATION)]
    if attenuation_db:
        command += ["--attenuation-db", str(attenuation_db)]
    return timed(command, directory)


def millpond(program, directory, threads):
    return timed([program, "run", "pipeline.toml", "--json", "--fused", f"--threads={threads}"], directory)


def computed(filtered):
    """The beginning of what has to come out, as scipy computes it."""
    window = scipy.signal.firwin(2 * 64 * DECIMATION + 1, 1 / DECIMATION, window=("kaiser", 14))
    part = filtered[: PART * DECIMATION // INTERPOLATION + 1000]
    return scipy.signal.resample_poly(part, INTERPOLATION, DECIMATION, window=window)[:PART]


def deviation_db(path, exact):
    """How far our file is from it, in dB below it."""
    error = samples(path) - exact
    return 10 * numpy.log10(numpy.mean(error**2) / numpy.mean(exact**2))


def likeness(path, exact):
    """The correlation with it, moved in time to where that is largest; GNU Radio's is early by some samples and a fraction."""
    spectra = [numpy.fft.rfft(signal, 2 * PART) for signal in (samples(path), exact)]
    return numpy.fft.irfft(spectra[0] * numpy.conj(spectra[1])).max() / numpy.sum(exact**2)


def samples(path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", scipy.io.wavfile.WavFileWarning)  # of chunks that it does not know
        return scipy.io.wavfile.read(path)[1][:PART].astype(numpy.float64)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=int, default=60, help="length of the sound")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], help="threads of our process")
    parser.add_argument("--attenuation-db", type=float, help="a resampling filter like ours for GNU Radio")
    parser.add_argument("--millpond", type=pathlib.Path, default=MILLPOND)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    if not args.millpond.is_file():
        parser.error(f"there is no program at {args.millpond}: build it, or say where it is with --millpond")

    program = args.millpond.resolve()
    sides = {"gnuradio": lambda directory: gnuradio(directory, args.attenuation_db)}
    for threads in args.threads:
        sides[f"millpond, threads={threads}"] = lambda directory, n=threads: millpond(program, directory, n)
    results = {side: {"flowgraph": [], "process": []} for side in sides}
    with tempfile.TemporaryDirectory(prefix="millpond-compare-") as name:
        directory = pathlib.Path(name)
        filtered = prepare(directory, args.seconds)
        for measure in sides.values():
            version = measure(directory).get("version")
        version = gnuradio(directory, args.attenuation_db)["version"]
        exact = computed(filtered)
        ours, theirs = deviation_db(directory / "millpond.wav", exact), likeness(directory / "gnuradio.wav", exact)
        if ours > -120 or theirs < 0.95:
            sys.exit(f"wrong output: ours {ours:.0f} dB from what scipy computes, a correlation of {theirs:.3f} with GNU Radio's")
        for _ in range(args.rounds):
            for side, measure in sides.items():
                result = measure(directory)
                results[side]["flowgraph"].append(result["seconds"])
                results[side]["process"].append(result["process"])

    medians = {side: {kind: statistics.median(of[kind]) for kind in of} for side, of in results.items()}
    ratios = {
        side: {kind: medians[side][kind] / medians["gnuradio"][kind] for kind in of}
        for side, of in medians.items()
        if side != "gnuradio"
    }
    met = {kind: min(of[kind] for of in ratios.values()) <= ASKED for kind in ["flowgraph", "process"]}
    if args.json:
        print(json.dumps({"gnuradio": version, "seconds": results, "ratios": ratios, "deviation_db": ours}))
    else:
        print(f"FIR of {TAPS} taps and resampling, {args.seconds} s of sound, file to file; medians of {args.rounds}")
        print(f"GNU Radio {version}; our output is {ours:.0f} dB from what scipy computes, GNU Radio's is alike to {theirs:.3f}")
        print(f"\n{'':<20} {'flowgraph':>10} {'ratio':>6} {'process':>10} {'ratio':>6}   (asked <= {ASKED})")
        for side, of in medians.items():
            cells = [
                f"{of[kind] * 1e3:>7.1f} ms {ratios[side][kind] if side in ratios else 1:>6.2f}" for kind in of
            ]
            print(f"{side:<20} {' '.join(cells)}")
    sys.exit(0 if all(met.values()) else 3)


if __name__ == "__main__":
    main()
