#!/usr/bin/env python3
"""The spectrum of a WAV file while it plays: a Python block with numpy's FFT between two Rust blocks, each its own process.

From the directory of the repository, after `pip install .`: python3 examples/python/spectrum.py examples/tone.wav spectrum.csv

The table has 32 rows for each spectrum: the power in dB of each band, from low to high. The loudest band is printed at the end.
"""

import sys

import numpy as np
from numpy.typing import NDArray

import millpond

BANDS = 32
SIZE = 256


@millpond.block
class Spectrum:
    """Averages the power of a Hann-windowed FFT over bands."""

    def __init__(self) -> None:
        self.window = np.hanning(SIZE)
        self.rest = np.empty(0)

    def work(self, samples: NDArray[np.float32]) -> NDArray[np.float64] | None:
        self.rest = np.concatenate([self.rest, samples.reshape(len(samples), -1).mean(axis=1)])
        count = len(self.rest) // SIZE
        if count == 0:
            return None
        pieces, self.rest = self.rest[: count * SIZE].reshape(count, SIZE), self.rest[count * SIZE :]
        power = np.abs(np.fft.rfft(pieces * self.window, axis=1)[:, : SIZE // 2]) ** 2
        bands = power.reshape(count, BANDS, -1).mean(axis=(0, 2))
        decibels: NDArray[np.float64] = 10 * np.log10(bands + 1e-12)
        return decibels


def main(wav: str, table: str) -> None:
    """Runs it to the end of the file."""
    graph = millpond.Flowgraph("spectrum")
    graph.block("song", "wav-source", path=wav)
    graph.block("spectrum", Spectrum)
    graph.block("table", "csv-sink", path=table)
    graph.connect("song -> spectrum -> table")
    graph.run()
    spectra = np.loadtxt(table, delimiter=",", skiprows=1, usecols=1).reshape(-1, BANDS)
    loudest = int(spectra.mean(axis=0).argmax())
    print(f"{len(spectra)} spectra; the loudest band is number {loudest} of 0 to {BANDS - 1}")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(f"usage: {sys.argv[0]} SONG.wav SPECTRUM.csv")
    main(sys.argv[1], sys.argv[2])
