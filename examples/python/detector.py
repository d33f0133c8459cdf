#!/usr/bin/env python3
"""A detector written in Python, for pipelines: see detector.toml."""

import logging

import numpy as np
from numpy.typing import NDArray

import millpond


@millpond.block
class Loudest:
    """Finds the loudest frequency of each buffer."""

    def __init__(self, *, rate_hz: float = 48000.0) -> None:
        self.rate_hz = rate_hz
        self.found = 0

    def work(self, samples: NDArray[np.float32]) -> NDArray[np.float64] | None:
        mono = samples.reshape(len(samples), -1).mean(axis=1)
        if len(mono) < 64:
            return None
        spectrum = np.abs(np.fft.rfft(mono * np.hanning(len(mono))))
        self.found += 1
        return np.array([np.argmax(spectrum) * self.rate_hz / len(mono)])

    def finish(self) -> None:
        logging.info("looked at %d buffers", self.found)


if __name__ == "__main__":
    millpond.main()
