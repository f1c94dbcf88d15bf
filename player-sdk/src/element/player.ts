// `<millstream-player stream tracker verify-key>`: a video that plays a stream from the swarm where it can and plain
// HLS where it cannot. README.md beside `src/` is its manual: attributes, events, parts, CSS variables.

import Hls, { type ErrorData } from 'hls.js';
import { swarmConfig } from '../hls/attach';
import { plainPlaylist } from '../plain';
import type { OpenSession, Session, SessionOptions } from '../session';
import type { PlayerStats } from '../stats';
import { MISSING_TEXT, type Missing, missingSupport } from '../support';
import { PLAYER_STYLE } from './player-style';
import { MillstreamStats } from './stats';
import { durationText } from './text';

/** Why the player plays plain HLS. */
export type PlainReason = Missing | 'no-session';

/** What went wrong, by name. */
export type PlayerErrorName = PlainReason | 'bad-attributes' | 'unsupported' | 'no-stream' | 'media';

/** `detail` of the `ms-mode` event. */
export interface ModeDetail {
  readonly mode: 'swarm' | 'plain';
  /** Why it is not the swarm. */
  readonly reason?: PlainReason;
}

/** `detail` of the `ms-error` event. */
export interface ErrorDetail {
  readonly name: PlayerErrorName;
  readonly message: string;
  /** Whether playback ended. */
  readonly fatal: boolean;
}

const RESTARTING = ['stream', 'tracker', 'verify-key', 'ticket', 'src'];
const PASSED_ON = ['autoplay', 'muted', 'controls', 'playsinline', 'poster'];

/** How often the numbers are told. */
const STATS_MS = 1_000;

/** hls.js mends a media error by rebuilding its buffers; more often than this and the stream itself is broken. */
const MEDIA_RECOVERIES_MAX = 3;

/** A publisher that is away comes back within half a minute, and viewers must not hammer the origin meanwhile. */
const RETRY_MS = 1_000;
const RETRY_MS_MAX = 15_000;

const TEMPLATE = `
<style>${PLAYER_STYLE}</style>
<video part="video" playsinline></video>
<div class="top">
  <span class="live" part="live" hidden></span>
  <millstream-stats part="stats" exportparts="panel, chart, edges, figures" hidden></millstream-stats>
</div>
<button class="play" part="play" aria-label="Play" hidden></button>
<button class="unmute" part="unmute" hidden>Unmute</button>
<div class="message" part="message" role="status" hidden></div>`;

/** The player. */
export class MillstreamPlayer extends (globalThis.HTMLElement ?? class {}) {
  static readonly observedAttributes = [...RESTARTING, ...PASSED_ON, 'stats'];

  /** How sessions are opened. Without it the player plays plain HLS. */
  static openSession: OpenSession | undefined;

  readonly #root = this.attachShadow({ mode: 'open' });
  readonly #video: HTMLVideoElement;
  readonly #overlay: MillstreamStats;
  #hls: Hls | undefined;
  #session: Session | undefined;
  #running: AbortController | undefined;
  #planned = false;
  /** Media bytes by plain HLS. */
  #plainBytes = 0;
  #recoveries = 0;
  #retries = 0;

  constructor() {
    super();
    this.#root.innerHTML = TEMPLATE;
    this.#video = this.#find<HTMLVideoElement>('video');
    this.#overlay = this.#find<MillstreamStats>('millstream-stats');
    this.#find('.play').addEventListener('click', () => void this.play());
    this.#find('.unmute').addEventListener('click', () => {
      this.#video.muted = false;
      this.#find('.unmute').hidden = true;
    });
    this.#video.addEventListener('playing', () => {
      this.#find('.play').hidden = true;
      this.#say(undefined);
    });
  }

  /** The video element inside. */
  get video(): HTMLVideoElement {
    return this.#video;
  }

  /** The `Hls` that plays, when one does. */
  get hls(): Hls | undefined {
    return this.#hls;
  }

  /** The numbers now; undefined before the player started. */
  get stats(): PlayerStats | undefined {
    return this.#session?.stats() ?? (this.#hls === undefined ? undefined : this.#plainStats());
  }

  /** Plays, muted when the browser allows nothing else; shows a button when it allows nothing at all. */
  async play(): Promise<void> {
    try {
      await this.#video.play();
    } catch (error) {
      if ((error as Error).name !== 'NotAllowedError') return;
      if (this.#video.muted) {
        this.#find('.play').hidden = false;
        return;
      }
      this.#video.muted = true;
      this.#find('.unmute').hidden = false;
      await this.play();
    }
  }

  connectedCallback(): void {
    this.#plan();
  }

  disconnectedCallback(): void {
    this.#stop();
  }

  attributeChangedCallback(name: string, before: string | null, now: string | null): void {
    if (before === now) return;
    if (name === 'stats') this.#overlay.hidden = now === null;
    else if (name === 'muted') this.#video.muted = now !== null;
    else if (PASSED_ON.includes(name)) {
      // We start playback ourselves, to know when the browser forbids it.
      if (name !== 'autoplay') this.#video.toggleAttribute(name, now !== null);
      if (name === 'poster' && now !== null) this.#video.poster = now;
    } else this.#plan();
  }

  /** Attributes are often set one after another: one start for all of them. */
  #plan(): void {
    if (this.#planned) return;
    this.#planned = true;
    queueMicrotask(() => {
      this.#planned = false;
      this.#stop();
      if (this.isConnected) void this.#start();
    });
  }

  async #start(): Promise<void> {
    const running = (this.#running = new AbortController());
    const options = this.#options();
    if (options === undefined && !this.hasAttribute('src')) {
      this.#fail('bad-attributes', 'A player needs the attributes stream and tracker, or src.', true);
      return;
    }
    const reason = options === undefined ? 'no-session' : await this.#openSession(options, running.signal);
    if (running.signal.aborted) return;
    try {
      const url = this.#session?.url ?? (await this.#plainUrl(options, running.signal));
      if (running.signal.aborted) return;
      this.#emit<ModeDetail>('ms-mode', reason === undefined ? { mode: 'swarm' } : { mode: 'plain', reason });
      this.#load(url, running.signal);
    } catch (error) {
      if (!running.signal.aborted) this.#fail('no-stream', String((error as Error).message), true);
    }
  }

  #options(): SessionOptions | undefined {
    const [stream, tracker] = [this.getAttribute('stream'), this.getAttribute('tracker')];
    if (!stream || !tracker) return undefined;
    const [verifyKey, ticket] = [this.getAttribute('verify-key'), this.getAttribute('ticket')];
    return {
      stream,
      tracker: new URL(tracker, this.baseURI).href.replace(/\/+$/, ''),
      ...(verifyKey === null ? {} : { verifyKey }),
      ...(ticket === null ? {} : { ticket }),
    };
  }

  /** Opens a session, or says why there is none. */
  async #openSession(options: SessionOptions, signal: AbortSignal): Promise<PlainReason | undefined> {
    const missing = missingSupport();
    if (missing !== undefined) {
      this.#fail(missing, MISSING_TEXT[missing], false);
      return missing;
    }
    const open = MillstreamPlayer.openSession;
    if (open === undefined || !Hls.isSupported()) return 'no-session';
    try {
      const session = await open(options, signal);
      if (signal.aborted) session.close();
      else this.#session = session;
      return undefined;
    } catch (error) {
      if (!signal.aborted) this.#fail('no-session', `No session: ${String((error as Error).message)}`, false);
      return 'no-session';
    }
  }

  async #plainUrl(options: SessionOptions | undefined, signal: AbortSignal): Promise<string> {
    const src = this.getAttribute('src');
    if (src !== null) return new URL(src, this.baseURI).href;
    if (options === undefined) throw new Error('nothing to play');
    return plainPlaylist(options.tracker, options.stream, signal);
  }

  #load(url: string, signal: AbortSignal): void {
    const video = this.#video;
    if (Hls.isSupported()) {
      const hls = new Hls(this.#session === undefined ? {} : swarmConfig(Hls, this.#session.swarm));
      this.#hls = hls;
      hls.on(Hls.Events.ERROR, (_, data) => this.#hlsFailed(hls, data, signal));
      hls.on(Hls.Events.MANIFEST_PARSED, () => (this.#retries = 0));
      hls.on(Hls.Events.FRAG_LOADED, (_, { payload }) => (this.#plainBytes += payload.byteLength));
      hls.loadSource(url);
      hls.attachMedia(video);
    } else if (video.canPlayType('application/vnd.apple.mpegurl') !== '') {
      video.src = url;
    } else {
      this.#fail('unsupported', 'This browser can play neither Media Source Extensions nor HLS.', true);
      return;
    }
    this.#tellStats(signal);
    if (this.hasAttribute('autoplay')) void this.play();
    else this.#find('.play').hidden = video.controls;
  }

  #hlsFailed(hls: Hls, data: ErrorData, signal: AbortSignal): void {
    if (!data.fatal || signal.aborted) return;
    const { type, details } = data;
    if (type === Hls.ErrorTypes.MEDIA_ERROR && this.#recoveries < MEDIA_RECOVERIES_MAX) {
      this.#recoveries++;
      hls.recoverMediaError();
    } else if (type === Hls.ErrorTypes.NETWORK_ERROR) {
      this.#fail('no-stream', `The stream is away (${details}).`, false);
      this.#say('Waiting for the stream …');
      const pause = Math.min(RETRY_MS * 2 ** this.#retries++, RETRY_MS_MAX) * (0.5 + Math.random() / 2);
      const timer = setTimeout(() => hls.loadSource(hls.url ?? ''), pause);
      signal.addEventListener('abort', () => clearTimeout(timer), { once: true });
    } else {
      this.#fail('media', `Playback ended (${details}).`, true);
    }
  }

  #tellStats(signal: AbortSignal): void {
    const timer = setInterval(() => {
      const { stats } = this;
      if (stats === undefined) return;
      if (!this.#overlay.hidden) this.#overlay.show(stats);
      const live = this.#find('.live');
      live.hidden = stats.latencyMs === undefined;
      live.textContent = `Live ${durationText(stats.latencyMs)}`;
      this.#emit<PlayerStats>('ms-stats', stats);
    }, STATS_MS);
    signal.addEventListener('abort', () => clearInterval(timer), { once: true });
  }

  #plainStats(): PlayerStats {
    const { currentTime, buffered } = this.#video;
    const end = buffered.length === 0 ? currentTime : buffered.end(buffered.length - 1);
    const latency = this.#hls?.latency ?? 0;
    return {
      mode: 'plain',
      bytes: { edge: 0, peer: 0, origin: this.#plainBytes },
      edges: [],
      pieces: { verified: 0, rejected: 0 },
      stalls: { count: 0, ms: 0 },
      bufferMs: Math.max(end - currentTime, 0) * 1_000,
      bitsPerSecond: this.#hls?.bandwidthEstimate ?? 0,
      ...(latency > 0 ? { latencyMs: latency * 1_000 } : {}),
    };
  }

  #fail(name: PlayerErrorName, message: string, fatal: boolean): void {
    this.#emit<ErrorDetail>('ms-error', { name, message, fatal });
    if (fatal) this.#say(message);
  }

  #say(message: string | undefined): void {
    const line = this.#find('.message');
    line.hidden = message === undefined;
    line.textContent = message ?? '';
  }

  #emit<D>(name: string, detail: D): void {
    this.dispatchEvent(new CustomEvent<D>(name, { detail, bubbles: true, composed: true }));
  }

  #stop(): void {
    this.#running?.abort();
    this.#hls?.destroy();
    this.#session?.close();
    this.#running = this.#hls = this.#session = undefined;
    this.#recoveries = this.#retries = this.#plainBytes = 0;
    this.#find('.live').hidden = this.#find('.play').hidden = true;
    this.#say(undefined);
  }

  #find<E extends HTMLElement = HTMLElement>(selector: string): E {
    const found = this.#root.querySelector<E>(selector);
    if (found === null) throw new Error(`the player has no ${selector}`);
    return found;
  }
}
