"""Measures sound per second, and gives the class and loudness of a time range."""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt

from tl_data.local.perception.decode import SOUND_RATE, Samples

BANDS = 24  # frequency bands on the mel scale
_SILENT = -55.0  # dBFS; sound below it is silence
_FFT_SIZE = 1024  # samples of a spectrum, 64 ms
UNKNOWN = -1.0  # stands for the probability of music if the network is not installed
_MIN_MUSIC = 0.5  # smallest mean probability of music at which sound is music
_VOICED = 0.35  # above this share of frames with a voice, a second or a range counts as voiced
#: A range is speech above the first share of words; above the second, if it is voiced, too.
_SPOKEN, _SPOKEN_IF_VOICED = 0.2, 0.05

#: One row per second. The columns have the numbers below; the energies of the bands come last.
Seconds = npt.NDArray[np.float32]
_LOUD, _VOICE, _MUSIC, _FIRST_BAND = 0, 1, 2, 3
COLUMNS = _FIRST_BAND + BANDS


def measure(second: Samples, voiced: float, music: float = 0.0) -> npt.NDArray[np.float32]:
    """Measure one second of sound: loudness, share of voice, music, log band energies.

    Args:
        voiced: share of the second's frames that have a voice, as the voice activity detector reports it.
        music: probability of music, 0 to 1, or `UNKNOWN`.
    """
    wave = second.astype(np.float32) / 32768
    power = float(np.mean(wave * wave)) if wave.size else 0.0
    loudness = max(-99.0, 10 * np.log10(power)) if power > 0 else -99.0
    if wave.size < _FFT_SIZE:
        wave = np.pad(wave, (0, _FFT_SIZE - wave.size))
    windows = np.lib.stride_tricks.sliding_window_view(wave, _FFT_SIZE)[:: _FFT_SIZE // 2]
    spectra = np.abs(np.fft.rfft(windows * np.hanning(_FFT_SIZE).astype(np.float32))) ** 2
    bands = np.log10(spectra @ _mel() + 1e-10)
    return np.concatenate(([loudness, voiced, music], bands.mean(axis=0))).astype(np.float32)


def summary(seconds: Seconds, start: float, end: float, spoken: float) -> tuple[str, float, Seconds]:
    """The class, the loudness (dBFS) and the log band energies of a time range.

    The class is "speech", "music", "noise" or "silence". Sound that is not speech has the class "" if the
    network that recognises music is not installed.

    Args:
        seconds: the measurements of all seconds of the video.
        start, end: the range in seconds.
        spoken: share of the range that has words, 0 to 1.

    Returns:
        The class, the mean loudness, and the log band energies: one row per second of the range. Without
        measurements in the range: "silence", -99 and no rows.
    """
    rows = seconds[int(start) : max(int(start) + 1, int(np.ceil(end)))]
    if len(rows) == 0:
        return "silence", -99.0, np.zeros((0, BANDS), np.float32)
    loudness = float(10 * np.log10(np.mean(10 ** (rows[:, _LOUD] / 10)) + 1e-10))
    bands = rows[:, _FIRST_BAND:]
    if loudness < _SILENT:
        return "silence", round(max(loudness, -99.0), 1), bands
    audible = rows[rows[:, _LOUD] > _SILENT]
    if spoken > _SPOKEN or (spoken > _SPOKEN_IF_VOICED and float(audible[:, _VOICE].mean()) > _VOICED):
        kind = "speech"
    else:
        music = float(audible[:, _MUSIC].mean())
        kind = "" if music < 0 else "music" if music >= _MIN_MUSIC else "noise"
    return kind, round(loudness, 1), bands


def confidence(seconds: Seconds, start: float, end: float, kind: str, spoken: float) -> float | None:
    """The share of a range's seconds that have its class by themselves, 0 to 1.

    None if the range has no measurements, or its class is "".

    For speech, the result is at least `spoken`. A second of music or noise with a voice counts half:
    it may be speech that was not transcribed.
    """
    rows = seconds[int(start) : max(int(start) + 1, int(np.ceil(end)))]
    if len(rows) == 0:
        return None
    silent = rows[:, _LOUD] < _SILENT
    if kind == "silence":
        return round(float(silent.mean()), 3)
    voiced = (rows[:, _VOICE] > _VOICED) & ~silent
    if kind == "speech":
        return round(min(1.0, max(spoken, float(voiced.mean()))), 3)
    if not kind:
        return None
    music = rows[:, _MUSIC] >= _MIN_MUSIC
    matching = (music if kind == "music" else ~music) & ~silent
    return round(float((matching * np.where(voiced, 0.5, 1.0)).mean()), 3)


@cache
def _mel() -> npt.NDArray[np.float32]:
    """Triangular filters on the mel scale, as a matrix of spectrum bins x bands."""
    top = 2595 * np.log10(1 + SOUND_RATE / 2 / 700)
    edges = 700 * (10 ** (np.linspace(0, top, BANDS + 2) / 2595) - 1)
    bins = np.fft.rfftfreq(_FFT_SIZE, 1 / SOUND_RATE)[:, None]
    low, middle, high = edges[:-2], edges[1:-1], edges[2:]
    return np.clip(
        np.minimum((bins - low) / (middle - low), (high - bins) / (high - middle)), 0, None
    ).astype(np.float32)
