"""Text to speech through the espeak-ng library that the `espeakng-loader` wheel carries."""

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
_SYNCHRONOUS = 2  # espeak_Synth returns when all the audio has been handed over
_DONT_EXIT = 0x8000
_UTF8 = 1
_POS_CHARACTER = 1
_RATE, _PITCH, _RANGE, _GAP = 1, 3, 4, 7  # espeak_PARAMETER

_Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)
_lock = threading.Lock()  # the library keeps one voice and one callback a process


def speak(text: str, voice: str = "en-us+f2", rate: int = 130, pitch: int = 40) -> tuple[Samples, int]:
    """Say `text`: mono samples, and how many of them make a second. The same text gives the same samples.

    Args:
        text: What to say.
        voice: A voice of espeak-ng: "en-us", "en-gb", "de" ..., with "+f2" for a variant. Of those tried,
            "en-us+f2" is the one that a small speech recognizer understands best by far.
        rate: Words a minute.
        pitch: 0 to 99.

    Raises:
        MissingExtra: the speech library is not installed.
        TLDataError: espeak-ng has no such voice.
    """
    parts: list[Samples] = []

    def take(wave: ctypes._Pointer[ctypes.c_short], count: int, events: int | None) -> int:
        if wave and count > 0:
            parts.append(np.ctypeslib.as_array(wave, (count,)).astype(np.int16, copy=True))
        return 0

    callback = _Callback(take)
    with _library() as (library, samples_a_second):
        if library.espeak_SetVoiceByName(voice.encode()) != 0:
            raise TLDataError(f"espeak-ng has no voice {voice!r}; 'en-us' is one it has")
        for parameter, value in ((_RATE, rate), (_PITCH, pitch), (_RANGE, 40), (_GAP, 2)):
            library.espeak_SetParameter(parameter, value, 0)
        library.espeak_SetSynthCallback(callback)
        encoded = text.encode()
        library.espeak_Synth(encoded, len(encoded) + 1, 0, _POS_CHARACTER, 0, _UTF8, None, None)
    return (np.concatenate(parts) if parts else np.zeros(0, np.int16)), samples_a_second


@contextmanager
def _library() -> Iterator[tuple[ctypes.CDLL, int]]:
    """The library, freshly loaded (5 ms) and with a fixed seed.

    Its filters and its breath noise go on from where the call before left them; only unloading resets
    them, and without that the same text would give other samples each time.
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
