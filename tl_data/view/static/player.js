// Plays one video: a file, a URL, an object in a bucket, or an HLS stream. Otherwise it shows why it cannot.
// `addresses` has the functions `media`, `poster` and `stream`, which return URLs for the id of a video.

import * as viewer from "./api.js";
import { clear, h } from "./dom.js";

// Code of a MediaError -> message.
const REASONS = {
  1: "Loading was stopped.",
  2: "The source stopped answering while the video was loaded.",
  3: "The browser cannot decode this video. It plays H.264, VP9 and AV1; it may not play HEVC.",
  4: "The browser cannot open the source: it is missing, private or expired, or in a format that the browser cannot play.",
};

const AUDIO = /\.(mp3|wav|m4a|flac|ogg|opus|aac)$/i;

export class Player {
  constructor(video, addresses = viewer) {
    this.video = video;
    this.addresses = addresses;
    this.element = h("div", { class: "player" });
    this.screen = null;
    if (video.play.kind === "none") this.openStreamOr(video.play.reason);
    else this.open();
  }

  // Plays the platform's stream of the video, if there may be one; otherwise shows the reason.
  async openStreamOr(reason) {
    const { id, play } = this.video;
    if (!play.stream || this.triedStream) {
      this.refuse(reason);
      return;
    }
    this.triedStream = true;
    this.close();
    this.makeScreen();
    const answer = await fetch(this.addresses.stream(id)).catch(() => null);
    if (!this.element.isConnected) return;
    if (!answer?.ok) this.refuse(reason);
    else await this.openHls(this.addresses.stream(id));
  }

  // Plays the platform's stream, which may have pictures, if there is one; otherwise the sound plays on.
  async openStreamWithPictures() {
    const { id, play } = this.video;
    if (!play.stream || this.triedStream) return;
    this.triedStream = true;
    const answer = await fetch(this.addresses.stream(id)).catch(() => null);
    if (!answer?.ok || !this.element.isConnected) return;
    this.wanted = [this.time, !this.screen.paused];
    this.close();
    this.makeScreen();
    await this.openHls(this.addresses.stream(id));
  }

  // Calls a function with the current <video> element, and with each that replaces it.
  watch(onScreen) {
    this.onScreen = onScreen;
    if (this.screen) onScreen(this.screen);
  }

  makeScreen() {
    const { id, title } = this.video;
    this.screen = h("video", { controls: true, preload: "metadata", playsinline: true, poster: this.addresses.poster(id), "aria-label": title });
    const screen = this.screen;
    screen.addEventListener("error", () => {
      if (screen === this.screen) this.openStreamOr(REASONS[screen.error?.code] || REASONS[4]);
    });
    // A browser that lacks the codec of the pictures may play the sound alone, without an error. Or there is only sound.
    screen.addEventListener("loadeddata", () => {
      if (screen === this.screen && screen.videoWidth === 0 && !AUDIO.test(this.video.file)) this.openStreamWithPictures();
    });
    clear(this.element, screen);
    this.onScreen?.(screen);
    if (this.wanted !== undefined) this.seek(...this.wanted); // the element replaces another one
  }

  open() {
    const { id, play } = this.video;
    this.makeScreen();
    if (play.kind === "hls") this.openHls(this.addresses.media(id));
    else this.screen.src = this.addresses.media(id);
  }

  // Plays a playlist: by hls.js, or by the browser itself where hls.js does not run (Safari on phones).
  async openHls(address) {
    const { default: Hls } = await import("./_vendor/hls.light.min.mjs");
    if (!Hls.isSupported()) {
      if (this.screen.canPlayType("application/vnd.apple.mpegurl")) this.screen.src = address;
      else this.refuse("The browser cannot play HLS streams.");
      return;
    }
    this.hls = new Hls({ enableWorker: false });
    this.hls.on(Hls.Events.ERROR, (_, data) => {
      if (!data.fatal) return;
      if (address === this.addresses.media(this.video.id) && this.screen.canPlayType("application/vnd.apple.mpegurl")) {
        this.hls.destroy(); // a browser with HLS of its own does not need the permission (CORS) of the host
        this.hls = null;
        this.screen.src = address;
      } else this.openStreamOr(`The stream cannot be played: ${data.details}. It may have expired, or its host may not allow this page to load it.`);
    });
    this.hls.loadSource(new URL(address, location.href).href);
    this.hls.attachMedia(this.screen);
  }

  // Shows the poster and the reason instead of the player.
  refuse(reason) {
    this.close();
    this.screen = null;
    this.picture = h("img", { src: this.addresses.poster(this.video.id), alt: "" });
    clear(this.element, this.picture, h("p", { class: "why", role: "status" }, reason));
  }

  get time() {
    return this.screen ? this.screen.currentTime : 0;
  }

  get length() {
    const duration = Number(this.video.duration_sec) || 0;
    return duration || (Number.isFinite(this.screen?.duration) ? this.screen.duration : 0);
  }

  seek(seconds, play = true) {
    this.wanted = [seconds, play];
    if (!this.screen) {
      this.picture.src = this.addresses.poster(this.video.id, seconds);
      return;
    }
    const go = () => {
      this.screen.currentTime = Math.max(0, seconds);
      if (play) this.screen.play().catch(() => {}); // the browser may require a click first; the position is set anyway
    };
    if (this.screen.readyState >= 1) go();
    else this.screen.addEventListener("loadedmetadata", go, { once: true });
  }

  toggle() {
    if (!this.screen) return;
    if (this.screen.paused) this.screen.play().catch(() => {});
    else this.screen.pause();
  }

  close() {
    this.hls?.destroy();
    this.hls = null;
    if (this.screen) {
      this.screen.pause();
      this.screen.removeAttribute("src");
      this.screen.load();
    }
  }
}
