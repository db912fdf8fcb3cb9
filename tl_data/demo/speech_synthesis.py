"""Text to speech with the espeak-ng library, which the package `espeakng-loader` installs."""

from __future__ import annotations

import _ctypes
import ctypes
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt

from tl_data.errors import MissingExtra, TLDataError

Samples = npt.NDArray[np.int16]

# Constants of espeak-ng's speak_lib.h.
_SYNCHRONOUS = 2  # espeak_Synth returns after the last callback
_DONT_EXIT = 0x8000
_UTF8 = 1
_POS_CHARACTER = 1
_RATE, _PITCH, _RANGE, _GAP = 1, 3, 4, 7  # espeak_PARAMETER

_Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)
_lock = threading.Lock()  # the library has one voice and one callback per process


def speak(text: str, voice: str = "en-us+f2", rate: int = 130, pitch: int = 40) -> tuple[Samples, int]:
    """Synthesize speech. The same text gives the same samples.

    Args:
        text: the text to speak.
        voice: a voice of espeak-ng: "en-us", "en-gb", "de" ..., with "+f2" for a variant. A small
            speech recognizer understands "en-us+f2" best of the tested voices.
        rate: words per minute.
        pitch: 0 to 99.

    Returns:
        The mono samples, and the number of samples per second.

    Raises:
        MissingExtra: the speech library is not installed.
        TLDataError: espeak-ng has no such voice.
    """
    parts: list[Samples] = []

    def collect(wave: ctypes._Pointer[ctypes.c_short], count: int, events: int | None) -> int:
        if wave and count > 0:
            parts.append(np.ctypeslib.as_array(wave, (count,)).astype(np.int16, copy=True))
        return 0

    callback = _Callback(collect)
    with _library() as (library, sample_rate):
        if library.espeak_SetVoiceByName(voice.encode()) != 0:
            raise TLDataError(f"espeak-ng has no voice {voice!r}; use a voice such as 'en-us'")
        for parameter, value in ((_RATE, rate), (_PITCH, pitch), (_RANGE, 40), (_GAP, 2)):
            library.espeak_SetParameter(parameter, value, 0)
        library.espeak_SetSynthCallback(callback)
        encoded = text.encode()
        library.espeak_Synth(encoded, len(encoded) + 1, 0, _POS_CHARACTER, 0, _UTF8, None, None)
    return (np.concatenate(parts) if parts else np.zeros(0, np.int16)), sample_rate


@contextmanager
def _library() -> Iterator[tuple[ctypes.CDLL, int]]:
    """The newly loaded library (5 ms) with a fixed random seed, and its sample rate.

    The library keeps the state of its filters and breath noise between calls, so the same text would give
    other samples each time. Only unloading the library resets this state.
    """
    try:
        import espeakng_loader
    except ImportError as error:
        raise MissingExtra("espeakng-loader", "demo") from error
    with _lock:
        library = ctypes.CDLL(espeakng_loader.get_library_path())
        try:
            library.espeak_Synth.argtypes = [
                ctypes.c_char_p, ctypes.c_size_t, ctypes.c_uint, ctypes.c_int,
                ctypes.c_uint, ctypes.c_uint, ctypes.c_void_p, ctypes.c_void_p,
            ]  # fmt: skip
            library.espeak_SetSynthCallback.argtypes = [_Callback]
            folder = espeakng_loader.get_data_path().encode()
            rate = library.espeak_Initialize(_SYNCHRONOUS, 0, folder, _DONT_EXIT)
            if rate <= 0:
                raise TLDataError(
                    "espeak-ng did not start: its voices are missing from the installed package"
                )
            library.espeak_ng_SetRandSeed(ctypes.c_long(1))
            yield library, rate
        finally:
            library.espeak_Terminate()
            getattr(_ctypes, "dlclose" if hasattr(_ctypes, "dlclose") else "FreeLibrary")(library._handle)
