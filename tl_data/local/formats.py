"""What may be opened of a foreign file: containers of video and sound, and nothing that they point to.

Playlists, scripts, pictures and subtitles can be opened by the same library, and some of those fetch other
files: they are not on the list.
"""

from __future__ import annotations

_FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo,flv,live_flv,ogg,asf,mxf,rm,ivf,nut,"
    "h264,hevc,m4v,av1,obu,vc1,dv,gxf,wtv,wav,w64,aiff,mp3,aac,ac3,eac3,flac,amr,au,caf,ape,tta"
)
OPEN = {"format_whitelist": _FORMATS, "protocol_whitelist": "file", "probesize": "10000000"}
