#!/usr/bin/env python3
"""Writes vectors.csv, the independent results that the tests of signal-processing blocks compare with.

Each line is a name and its numbers. Needs numpy and scipy; run it in this directory.
"""

import csv

import numpy as np
from scipy import signal

rng = np.random.default_rng(2026)
x = np.round(np.sin(np.arange(100) * 0.37) + rng.uniform(-0.5, 0.5, 100), 6)

vectors = {"input": x}


def design(name, length, cutoff, **kind):
    """Taps for a rate of 1, and the input filtered with them."""
    taps = signal.firwin(length, cutoff, fs=1, **kind)
    vectors[f"taps {name}"] = taps
    vectors[f"filtered {name}"] = signal.lfilter(taps, 1, x)


design("low-pass hamming", 15, 0.2, window="hamming")
design("low-pass hann", 16, 0.1, window="hann")
design("low-pass blackman", 33, 0.05, window="blackman")
design("low-pass rectangular", 7, 0.3, window="boxcar")
design("high-pass hamming", 15, 0.2, window="hamming", pass_zero=False)
design("band-pass hamming", 17, [0.1, 0.3], window="hamming", pass_zero=False)
design("band-stop hamming", 17, [0.1, 0.3], window="hamming", pass_zero=True)

for length in (1, 2, 5, 30):
    vectors[f"moving average {length}"] = signal.lfilter(np.full(length, 1 / length), 1, x)

for factor in (2, 3, 7):
    taps = signal.firwin(20 * factor + 1, 1 / factor, window="hamming")
    vectors[f"decimated {factor}"] = signal.lfilter(taps, 1, x)[::factor]

for name, window in (("rectangular", "boxcar"), ("hann", "hann"), ("hamming", "hamming"), ("blackman", "blackman")):
    for size in (16, 15):
        spectrum = np.fft.rfft(x[:size] * signal.get_window(window, size))
        vectors[f"spectrum {name} {size}"] = np.column_stack([spectrum.real, spectrum.imag]).ravel()

t = np.arange(50)
vectors["sine"] = 0.5 * np.sin(2 * np.pi * 1000 * t / 48000)
# Not at the jumps, where rounding decides.
vectors["square"] = signal.square(2 * np.pi * 1000 * (t + 0.25) / 48000)
vectors["saw"] = signal.sawtooth(2 * np.pi * 1000 * (t + 0.25) / 48000)
vectors["chirp"] = signal.chirp(t / 48000, f0=100, f1=9000, t1=0.001, phi=-90)[:48]

with open("vectors.csv", "w", newline="") as file:
    writer = csv.writer(file, lineterminator="\n")
    for name, values in vectors.items():
        writer.writerow([name, *(repr(float(value)) for value in values)])
