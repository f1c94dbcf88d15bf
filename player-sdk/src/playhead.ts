// Where a player is and how it goes: the playhead's program date time, the buffer ahead of it, and each time it stood
// still. Looks at the video and at hls.js, and changes neither.

import type Hls from 'hls.js';

/** How often the playhead is looked at. */
const LOOK_MS = 50;

/** Standing still for this long is a stall: below it people take it for a dropped frame. */
const STALL_MS = 200;

/** Watches one playback from its start. */
export class Playhead {
  readonly #video: HTMLMediaElement;
  readonly #hls: Hls | undefined;
  readonly #began: number;
  readonly #timer = setInterval(() => this.#look(), LOOK_MS);
  /** Where the playhead was when it was last seen to move. */
  #last: { readonly time: number; readonly at: number };
  #isStalled = false;
  #stalls = 0;
  #stalledMs = 0;
  #startupMs: number | undefined;

  /** `began` is when the player started, on `performance.now()`'s clock. */
  constructor(video: HTMLMediaElement, hls?: Hls, began = performance.now()) {
    this.#began = began;
    this.#video = video;
    this.#hls = hls;
    this.#last = { time: video.currentTime, at: performance.now() };
  }

  /** Program date time at the playhead, in milliseconds since 1970; undefined before playback. */
  get programDateTime(): number | undefined {
    if (this.#startupMs === undefined) return undefined;
    return this.#hls?.playingDate?.getTime();
  }

  /** Media ahead of the playhead, in milliseconds. */
  get bufferMs(): number {
    const { buffered, currentTime } = this.#video;
    for (let at = 0; at < buffered.length; at++) {
      if (buffered.start(at) <= currentTime && currentTime <= buffered.end(at)) {
        return (buffered.end(at) - currentTime) * 1_000;
      }
    }
    return 0;
  }

  /** Each time the playhead stood still for 200 ms or more after start, unless paused or at the end. */
  get stalls(): { readonly count: number; readonly ms: number } {
    const standing = this.#isStalled ? performance.now() - this.#last.at : 0;
    return { count: this.#stalls, ms: Math.round(this.#stalledMs + standing) };
  }

  /** Milliseconds until the picture moved; undefined before. */
  get startupMs(): number | undefined {
    return this.#startupMs;
  }

  /** The playing rendition's name, as its playlist is called. */
  get rendition(): string | undefined {
    const hls = this.#hls;
    const level = hls?.levels[hls.currentLevel];
    return level === undefined ? undefined : /([^/]+)\.m3u8(?:\?|$)/.exec(level.url[0] ?? '')?.[1];
  }

  /** Milliseconds behind live by hls.js's own reckoning, which needs no clock; undefined before it has one. */
  get estimatedLatencyMs(): number | undefined {
    const latency = this.#hls?.latency ?? 0;
    return latency > 0 ? latency * 1_000 : undefined;
  }

  close(): void {
    clearInterval(this.#timer);
  }

  #look(): void {
    const { currentTime, paused, ended, playbackRate } = this.#video;
    const now = performance.now();
    const moved = currentTime - this.#last.time;
    const passed = now - this.#last.at;
    if (this.#startupMs === undefined) {
      // hls.js's seek to where playback begins is no movement: a playing video moves a little at a time.
      const plays = !paused && moved > 0 && moved * 1_000 <= passed * playbackRate + LOOK_MS;
      if (plays) this.#startupMs = Math.round(now - this.#began);
    } else if (moved === 0 && !paused && !ended) {
      if (passed >= STALL_MS && !this.#isStalled) this.#stall(true);
      return;
    } else if (this.#isStalled) {
      this.#stalledMs += passed;
    } else {
      // A look that came late (a busy page) sees the stall and its end at once.
      const stood = passed - (moved * 1_000) / (playbackRate || 1);
      if (moved > 0 && stood >= STALL_MS && !paused) {
        this.#stall(false);
        this.#stalledMs += stood;
      }
    }
    this.#isStalled = false;
    this.#last = { time: currentTime, at: now };
  }

  #stall(lasts: boolean): void {
    this.#isStalled = lasts;
    this.#stalls++;
  }
}
