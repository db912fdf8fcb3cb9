"""The HLS stream of a video: a playlist with MPEG-TS segments that browsers play.

H.264 and AAC are repackaged; other codecs are transcoded to them. Because this decodes untrusted files, it
runs in a separate process with limited memory and time: `python -m tl_data.local.tasks.hls SOURCE FOLDER`.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import resource
import shutil
import sys
import threading
from fractions import Fraction
from pathlib import Path
from typing import Any

from tl_data.local.errors import StorageFull
from tl_data.untrusted import CONTAINERS, worker_environment

PLAYLIST = "stream.m3u8"
SEGMENT_SEC = 6
MAX_MEMORY = 4 << 30  # bytes of the process
EXIT_FULL = 28  # exit code of the process when the disk is full
MAX_SIDE = 1920  # pixels of the longer side of transcoded video
PLAIN = ("yuv420p", "yuvj420p")  # pixel formats that every browser decodes
#: File extension -> media type.
TYPES = {".m3u8": "application/vnd.apple.mpegurl", ".ts": "video/mp2t", ".jpg": "image/jpeg"}


async def make_stream(source: Path, folder: Path, seconds: float) -> str | None:
    """Write the stream of `source` to `folder` within `seconds`. A failure leaves the folder unchanged.

    Returns the reason of a failure, or None.

    Raises:
        StorageFull: the disk is full.
    """
    unfinished = folder.with_name(f"{folder.name}.part")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tl_data.local.tasks.hls", str(source), str(unfinished),
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
        env=worker_environment(),
    )  # fmt: skip
    assert process.stderr is not None
    try:
        async with asyncio.timeout(seconds):
            stderr = await process.stderr.read()
            await process.wait()
    except TimeoutError:
        stderr = b"timed out"
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode == EXIT_FULL:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise StorageFull
    if process.returncode != 0 or not unfinished.exists():  # without the folder, the video was deleted
        shutil.rmtree(unfinished, ignore_errors=True)
        return stderr.decode("utf-8", "replace").strip()[-300:] or f"exit code {process.returncode}"
    shutil.rmtree(folder, ignore_errors=True)
    unfinished.rename(folder)
    return None


def write_stream(source: Path, folder: Path) -> None:
    """Read `source`, and write the playlist and segments to `folder`."""
    import av

    with (
        av.open(str(source), options=CONTAINERS) as source_file,
        av.open(
            str(folder / PLAYLIST),
            "w",
            format="hls",
            options={
                "hls_time": str(SEGMENT_SEC),
                "hls_playlist_type": "vod",
                "hls_segment_filename": str(folder / "%05d.ts"),
            },
        ) as stream_file,
    ):
        writers: dict[int, _Copy | _Encode] = {}
        if video := _decodable(source_file.streams.video):
            turns = _turns(source_file, video)
            is_playable = video.codec_context.name == "h264" and video.codec_context.pix_fmt in PLAIN
            writers[video.index] = (
                _Copy(stream_file, video)
                if is_playable and not turns
                else _EncodeVideo(stream_file, video, turns)
            )
        if audio := _decodable(source_file.streams.audio):
            is_playable = audio.codec_context.name == "aac"
            writers[audio.index] = (
                _Copy(stream_file, audio) if is_playable else _EncodeAudio(stream_file, audio)
            )
        for packet in source_file.demux([source_file.streams[index] for index in writers]):
            writers[packet.stream.index].feed(packet)
        for writer in writers.values():
            writer.end()


def _decodable(streams: Any) -> Any:
    """The first stream with a known codec; None if there is none."""
    return next((stream for stream in streams if stream.codec_context is not None), None)


def _turns(source_file: Any, video: Any) -> int:
    """The number of clockwise quarter turns that make the pictures upright.

    The pictures must be turned, because MPEG-TS has no rotation metadata.
    """
    first = next(source_file.decode(video), None)
    source_file.seek(0)
    return round(-(first.rotation or 0) / 90) % 4 if first is not None else 0


class _Copy:
    """Copies the packets of a stream."""

    def __init__(self, stream_file: Any, stream: Any) -> None:
        self._stream_file = stream_file
        self._out = stream_file.add_stream_from_template(stream)

    def feed(self, packet: Any) -> None:
        if packet.dts is None or packet.size == 0 or packet.is_corrupt:  # the last packet of a truncated file
            return
        packet.stream = self._out
        self._stream_file.mux(packet)

    def end(self) -> None:
        """Do nothing: no packet is buffered."""


class _Encode:
    """Decodes the frames of a stream and encodes them again."""

    _out: Any

    def __init__(self, stream_file: Any) -> None:
        self._stream_file = stream_file

    def feed(self, packet: Any) -> None:
        import av

        try:
            frames = packet.decode()
        except av.error.InvalidDataError:
            return  # a damaged picture: continue with the next
        for frame in frames:
            for converted in self._convert(frame):
                self._stream_file.mux(self._out.encode(converted))

    def _convert(self, frame: Any) -> list[Any]:
        """The frames to encode for a decoded frame."""
        raise NotImplementedError

    def end(self) -> None:
        self._stream_file.mux(self._out.encode(None))


class _EncodeVideo(_Encode):
    def __init__(self, stream_file: Any, stream: Any, turns: int) -> None:
        super().__init__(stream_file)
        self._turns = turns
        rate = stream.average_rate or Fraction(25)
        context = stream.codec_context
        width, height = context.width, context.height
        width, height = (height, width) if turns % 2 else (width, height)
        scale = min(1.0, MAX_SIDE / max(1, width, height))
        self._out = stream_file.add_stream("libx264", rate=min(rate, Fraction(60)))
        self._out.width = max(2, round(width * scale / 2) * 2)
        self._out.height = max(2, round(height * scale / 2) * 2)
        self._out.pix_fmt = "yuv420p"
        self._out.options = {"preset": "veryfast", "crf": "24"}
        self._out.codec_context.gop_size = max(1, round(float(rate) * 2))
        self._out.codec_context.time_base = stream.time_base
        self._last = -1

    def _convert(self, frame: Any) -> list[Any]:
        if frame.pts is None or frame.pts <= self._last:
            return []
        self._last = frame.pts
        upright = frame
        if self._turns:
            import av
            import numpy as np

            turned = np.rot90(frame.to_ndarray(format="rgb24"), -self._turns)
            upright = av.VideoFrame.from_ndarray(np.ascontiguousarray(turned), format="rgb24")
        converted = upright.reformat(self._out.width, self._out.height, "yuv420p")
        converted.pts, converted.time_base = frame.pts, frame.time_base
        converted.pict_type = 0
        return [converted]


class _EncodeAudio(_Encode):
    def __init__(self, stream_file: Any, stream: Any) -> None:
        import av

        super().__init__(stream_file)
        rate = stream.codec_context.sample_rate
        rate = rate if rate in (32000, 44100, 48000) else 48000
        self._out = stream_file.add_stream("aac", rate=rate, layout="stereo")
        self._resampler = av.AudioResampler("fltp", "stereo", rate, frame_size=1024)

    def _convert(self, frame: Any) -> list[Any]:
        return list(self._resampler.resample(frame))

    def end(self) -> None:
        for converted in self._resampler.resample(None):
            self._stream_file.mux(self._out.encode(converted))
        super().end()


def _exit_with_server() -> None:
    """Exit when the server exits, which closes its end of stdin."""
    os.read(0, 1)  # not sys.stdin: its lock would block a normal exit
    os._exit(1)


def main() -> int:
    """Entry point of the process."""
    resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY, MAX_MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core dump would contain the video
    with contextlib.suppress(OSError):
        os.nice(10)  # the analysis of the next video is more urgent
    threading.Thread(target=_exit_with_server, daemon=True).start()
    import av

    av.logging.set_level(av.logging.PANIC)
    try:
        write_stream(Path(sys.argv[1]), Path(sys.argv[2]))
    except Exception as error:  # noqa: BLE001 - an untrusted file may raise anything; the server reports it
        sys.stderr.write(f"{type(error).__name__}: {error}")
        return EXIT_FULL if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
