// Plays one video: a file, a URL, an object in a bucket, or an HLS stream. Otherwise it shows why it cannot.

import { media, poster } from "./api.js";
import { clear, h } from "./dom.js";

// Code of a MediaError -> message.
const REASONS = {
  1: "Loading was stopped.",
  2: "The source stopped answering while the video was loaded.",
  3: "The browser cannot decode this video. It plays H.264, VP9 and AV1; it may not play HEVC.",
  4: "The browser cannot open the source: it is missing, private or expired, or in a format that the browser cannot play.",
};

export class Player {
  constructor(video) {
    this.video = video;
    this.element = h("div", { class: "player" });
    this.screen = null;
    if (video.play.kind === "none") this.refuse(video.play.reason);
    else this.open();
  }

  open() {
    const { id, play, title } = this.video;
    this.screen = h("video", { controls: true, preload: "metadata", playsinline: true, poster: poster(id), "aria-label": title });
    this.screen.addEventListener("error", () => this.refuse(REASONS[this.screen?.error?.code] || REASONS[4]));
    clear(this.element, this.screen);
    if (play.kind === "hls" && !this.screen.canPlayType("application/vnd.apple.mpegurl")) this.openHls();
    else this.screen.src = media(id);
  }

  async openHls() {
    const { default: Hls } = await import("./_vendor/hls.light.min.mjs");
    if (!Hls.isSupported()) {
      this.refuse("The browser cannot play HLS streams.");
      return;
    }
    this.hls = new Hls({ enableWorker: false });
    this.hls.on(Hls.Events.ERROR, (_, data) => {
      if (data.fatal) this.refuse(`The stream cannot be played: ${data.details}. It may have expired, or its host may not allow this page to load it.`);
    });
    this.hls.loadSource(new URL(media(this.video.id), location.href).href);
    this.hls.attachMedia(this.screen);
  }

  // Shows the poster and the reason instead of the player.
  refuse(reason) {
    this.close();
    this.screen = null;
    this.picture = h("img", { src: poster(this.video.id), alt: "" });
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
    if (!this.screen) {
      this.picture.src = poster(this.video.id, seconds);
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
