"""Measures sound per second, and gives the class and loudness of a time range."""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt

from tl_data.local.perception.decode import SOUND_RATE, Samples

BANDS = 24  # frequency bands on the mel scale
_SILENT = -55.0  # dBFS; sound below it is silence
_WINDOW = 1024  # samples of a spectrum, 64 ms
UNKNOWN = -1.0  # stands for the probability of music if the network is not installed
_MIN_MUSIC = 0.5  # smallest mean probability of music at which sound without words is music
_MIN_VOICED = 0.35  # smallest share of frames with a voice at which a second counts as voiced

Table = npt.NDArray[np.float32]
# Columns of the table, which has one row per second.
_LOUD, _VOICE, _MUSIC, _FIRST_BAND = 0, 1, 2, 3
COLUMNS = _FIRST_BAND + BANDS


def measure(second: Samples, voiced: float, music: float = 0.0) -> npt.NDArray[np.float32]:
    """Measure one second of sound: loudness, share of voice, music, log band energies.

    Args:
        voiced: share of the second's frames that have a voice.
        music: probability of music, 0 to 1, or `UNKNOWN`.
    """
    wave = second.astype(np.float32) / 32768
    power = float(np.mean(wave * wave)) if wave.size else 0.0
    loudness = max(-99.0, 10 * np.log10(power)) if power > 0 else -99.0
    if wave.size < _WINDOW:
        wave = np.pad(wave, (0, _WINDOW - wave.size))
    frames = np.lib.stride_tricks.sliding_window_view(wave, _WINDOW)[:: _WINDOW // 2]
    spectra = np.abs(np.fft.rfft(frames * np.hanning(_WINDOW).astype(np.float32))) ** 2
    bands = np.log10(spectra @ _mel() + 1e-10)
    return np.concatenate(([loudness, voiced, music], bands.mean(axis=0))).astype(np.float32)


def summary(seconds: Table, start: float, end: float, spoken: float) -> tuple[str, float, Table]:
    """The class, the loudness (dBFS) and the log band energies of a time range.

    The class is "speech", "music", "noise" or "silence". It is "" for sound without words if the network that
    recognises music is not installed.

    Args:
        spoken: share of the range that has words.
    """
    rows = seconds[int(start) : max(int(start) + 1, int(np.ceil(end)))]
    if len(rows) == 0:
        return "silence", -99.0, np.zeros((0, BANDS), np.float32)
    loudness = float(10 * np.log10(np.mean(10 ** (rows[:, _LOUD] / 10)) + 1e-10))
    bands = rows[:, _FIRST_BAND:]
    if loudness < _SILENT:
        return "silence", round(max(loudness, -99.0), 1), bands
    audible = rows[rows[:, _LOUD] > _SILENT]
    if spoken > 0.2 or (spoken > 0.05 and float(audible[:, _VOICE].mean()) > _MIN_VOICED):
        kind = "speech"
    else:
        music = float(audible[:, _MUSIC].mean())
        kind = "" if music < 0 else "music" if music >= _MIN_MUSIC else "noise"
    return kind, round(loudness, 1), bands


def confidence(seconds: Table, start: float, end: float, kind: str, spoken: float) -> float | None:
    """The share of a range's seconds that have its class by themselves, 0 to 1; None without sound.

    For speech, the result is at least `spoken`. A second of music or noise with a voice counts half:
    it may be speech that was not transcribed.
    """
    rows = seconds[int(start) : max(int(start) + 1, int(np.ceil(end)))]
    if len(rows) == 0:
        return None
    silent = rows[:, _LOUD] < _SILENT
    if kind == "silence":
        return round(float(silent.mean()), 3)
    voiced = (rows[:, _VOICE] > _MIN_VOICED) & ~silent
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
    bins = np.fft.rfftfreq(_WINDOW, 1 / SOUND_RATE)[:, None]
    low, middle, high = edges[:-2], edges[1:-1], edges[2:]
    return np.clip(
        np.minimum((bins - low) / (middle - low), (high - bins) / (high - middle)), 0, None
    ).astype(np.float32)
