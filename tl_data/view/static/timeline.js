// The timeline of a video: one lane per kind of content. A click seeks. Under the pointer, the picture, time and text
// of that position are shown. The arrow keys move the focus along a lane. `picture` returns the URL of the picture of a
// video at a second.

import { poster } from "./api.js";
import { clear, clock, h, text } from "./dom.js";

export function drawTimeline(video, lanes, length, jump, picture = poster) {
  const bubble = h("div", { class: "bubble", hidden: true });
  const element = h("div", { class: "timeline" });
  const playheads = [];

  function timeAt(event) {
    const box = event.currentTarget.getBoundingClientRect();
    return Math.min(length, Math.max(0, ((event.clientX - box.left) / box.width) * length));
  }

  const lastShown = { at: -10 };
  function show(event, mark) {
    const time = timeAt(event);
    const box = element.getBoundingClientRect();
    bubble.hidden = false;
    const left = Math.min(box.width - 170, Math.max(4, event.clientX - box.left - 80));
    bubble.style.transform = `translate(${left}px, ${event.currentTarget.offsetTop + event.currentTarget.offsetHeight + 6}px)`;
    const second = mark ? mark.start_sec : Math.round(time);
    if (lastShown.at !== second || lastShown.mark !== mark) {
      Object.assign(lastShown, { at: second, mark });
      clear(bubble, h("img", { src: picture(video.id, Math.round(second * 10) / 10), alt: "" }), h("strong", {}, mark ? `${clock(mark.start_sec)} – ${clock(mark.end_sec)}` : clock(time)), mark?.text ? text(mark.text, 120) : null);
    }
  }

  for (const [name, marks] of Object.entries(lanes)) {
    const head = h("div", { class: "playhead" });
    playheads.push(head);
    const buttons = marks.map((mark, index) => {
      const button = h(
        "button",
        {
          type: "button",
          class: "mark",
          tabindex: index ? "-1" : "0",
          "aria-label": `${name}, ${clock(mark.start_sec)} to ${clock(mark.end_sec)}: ${(mark.text || "").slice(0, 160)}`,
          onclick: (event) => {
            event.stopPropagation();
            jump(mark.start_sec);
          },
          onkeydown: (event) => {
            const target = { ArrowRight: index + 1, ArrowLeft: index - 1, Home: 0, End: marks.length - 1 }[event.key];
            if (target === undefined) return;
            event.preventDefault();
            event.stopPropagation();
            buttons[target]?.focus();
          },
        },
        mark.label ? text(mark.label, 60) : null,
      );
      button.style.left = `${(mark.start_sec / length) * 100}%`;
      button.style.width = `max(3px, ${((Math.min(mark.end_sec, length) - mark.start_sec) / length) * 100}%)`;
      button.dataset.at = index;
      return button;
    });
    const track = h(
      "div",
      {
        class: `track lane-${name.replaceAll(" ", "-")}`,
        onclick: (event) => jump(timeAt(event)),
        onpointermove: (event) => show(event, marks[event.target.closest(".mark")?.dataset.at]),
        onpointerleave: () => {
          bubble.hidden = true;
        },
      },
      buttons,
      head,
    );
    element.append(h("div", { class: "lane", role: "group", "aria-label": `${name}: ${marks.length}` }, h("span", { class: "lane-name" }, name), track));
  }
  element.append(bubble);
  return {
    element,
    showTime(seconds) {
      for (const head of playheads) head.style.left = `${Math.min(100, (seconds / length) * 100)}%`;
    },
  };
}
