// `<millstream-player stream tracker verify-key>`: a video that plays a stream from the swarm where it can and plain
// HLS where it cannot. README.md beside `src/` is its manual: attributes, events, parts, CSS variables.

import Hls, { type ErrorData, type HlsConfig } from 'hls.js';
import { swarmConfig } from '../hls/attach';
import { ComingSwarm, type MediaRequest } from '../hls/swarm';
import { fromBase64Url } from '../bytes';
import { type Plain, plainPlaylist, UnknownStream } from '../plain';
import { Playhead } from '../playhead';
import { type EndReason, type OpenSession, type Session, type SessionOptions, SessionRefused } from '../session';
import type { PlayerStats } from '../stats';
import { MISSING_TEXT, type Missing, missingSupport } from '../support';
import type { SwarmEvent } from '../wasm/port';
import { PLAYER_STYLE } from './player-style';
import { MillstreamStats } from './stats';
import { durationText } from './text';

/** Why the player plays plain HLS, or (`webrtc`) in the swarm without data channels. */
export type PlainReason = Missing | 'no-session';

/** What went wrong, by name. */
export type PlayerErrorName = PlainReason | 'bad-attributes' | 'unsupported' | 'no-stream' | 'untrusted' | 'media';

/** `detail` of the `ms-mode` event. */
export interface ModeDetail {
  readonly mode: 'swarm' | 'plain';
  /** Why it is not the swarm, or not all of it. */
  readonly reason?: PlainReason;
}

/** `detail` of the `ms-error` event. */
export interface ErrorDetail {
  readonly name: PlayerErrorName;
  readonly message: string;
  /** Whether playback ended. */
  readonly fatal: boolean;
  /** What the tracker said (`FaultCode`), or that it said nothing (`unreachable`). */
  readonly code?: string;
}

/** `detail` of the `ms-edge` event. */
export interface EdgeDetail {
  /** The edge's id, base64url. */
  readonly edge: string;
  readonly state: 'connected' | 'lost';
  /** Milliseconds that connecting took. */
  readonly afterMs?: number;
  /** Why it was lost, where one side said so. */
  readonly reason?: string;
}

/** `detail` of the `ms-bad-piece` event: a piece did not match what was signed, and was thrown away. */
export interface BadPieceDetail {
  /** An edge's id, or `origin`. */
  readonly source: string;
  readonly rendition: string;
  readonly number: number;
}

/** `detail` of the `ms-paid` event: the tracker has booked what an edge earned from us, in all. */
export interface PaidDetail {
  readonly edge: string;
  readonly earnedMicros: number;
}

/** Why there is no session, or not all of one. */
interface Lack {
  readonly reason: PlainReason;
  readonly code?: string;
}

const RESTARTING = ['stream', 'tracker', 'verify-key', 'allow-unverified', 'ticket-url', 'src'];
const PASSED_ON = ['autoplay', 'muted', 'controls', 'playsinline', 'poster'];

const ROOT_KEY_BYTES = 32;

/** How often the numbers are told. */
const STATS_MS = 1_000;

/** hls.js mends a media error by rebuilding its buffers; more often than this in a minute, and we begin from the start. */
const MEDIA_RECOVERIES_MAX = 3;
const RECOVERY_MS = 60_000;

/** A ticket has 2 KiB at most, and comes from a server of the page's own. */
const TICKET_CHARACTERS_MAX = 4_096;
const TICKET_TIMEOUT_MS = 8_000;

/** Refusals that asking again does not change. */
const LASTING: readonly (string | undefined)[] = ['unknown_stream', 'bad_ticket'];

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

  /** What hls.js is given, byte for byte, while a session plays; set it before the player starts. The bytes are gone
   * when it returns: copy or hash them. */
  onplayed: ((request: MediaRequest, bytes: Uint8Array<ArrayBuffer>) => void) | undefined;

  /** Fetches a ticket for the session key (base64url) it is given; the attribute `ticket-url` does the same by URL. */
  onticket: ((key: string) => Promise<string>) | undefined;

  readonly #root = this.attachShadow({ mode: 'open' });
  readonly #video: HTMLVideoElement;
  readonly #overlay: MillstreamStats;
  #hls: Hls | undefined;
  #session: Session | undefined;
  #playhead: Playhead | undefined;
  #running: AbortController | undefined;
  #planned = false;
  #began = 0;
  /** Media bytes by plain HLS. */
  #plainBytes = 0;
  /** When hls.js mended a media error, on `performance.now()`'s clock. */
  #recoveries: number[] = [];
  /** What the person wants, or autoplay for them: hls.js pauses the video when it loads anew, and does not say so. */
  #isPlaying = false;
  /** Starts that found no stream, in a row. */
  #starts = 0;
  #retries = 0;
  /** Said once. */
  #isDistrustTold = false;

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
    this.#video.addEventListener('play', () => (this.#isPlaying = true));
    this.#video.addEventListener('pause', () => (this.#isPlaying = false));
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
    return this.#session?.stats() ?? (this.#playhead === undefined ? undefined : this.#plainStats(this.#playhead));
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
    globalThis.addEventListener?.('pageshow', this.#onpageshow);
    this.#plan();
  }

  disconnectedCallback(): void {
    globalThis.removeEventListener?.('pageshow', this.#onpageshow);
    this.#stop();
  }

  // The session said farewell when the page was put away.
  readonly #onpageshow = ({ persisted }: PageTransitionEvent) => persisted && this.#plan();

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

  /** `plainly` says why not even to try the swarm. */
  async #start(plainly?: PlainReason): Promise<void> {
    const running = (this.#running = new AbortController());
    const { signal } = running;
    this.#began = performance.now();
    const options = this.#options();
    const wrong = options === undefined ? this.#attributesLack() : keyComplaint(options.verifyKey);
    if (wrong !== undefined) {
      this.#fail({ name: 'bad-attributes', message: wrong, fatal: true });
      return;
    }
    let lack: Lack | undefined = plainly === undefined ? undefined : { reason: plainly };
    if (lack === undefined) lack = options === undefined ? { reason: 'no-session' } : await this.#openSession(options, signal);
    if (signal.aborted) return;
    if (this.#session === undefined && lack !== undefined && this.#mustVerify) {
      this.#refuse(lack, signal);
      return;
    }
    const reason = lack?.reason;
    try {
      const session = this.#session;
      const source = session ?? (await this.#plain(options, signal));
      if (signal.aborted) return;
      const mode = session === undefined ? 'plain' : 'swarm';
      this.#emit<ModeDetail>('ms-mode', reason === undefined ? { mode } : { mode, reason });
      this.#load(source, signal);
      this.#starts = 0;
    } catch (error) {
      if (signal.aborted) return;
      const fatal = error instanceof UnknownStream;
      this.#fail({ name: 'no-stream', message: (error as Error).message, fatal });
      if (!fatal) this.#later(() => this.#startAnew(), this.#starts++, signal);
    }
  }

  /** A page that names the root key is not given what nobody verified, unless it says that it may. */
  get #mustVerify(): boolean {
    return this.hasAttribute('verify-key') && !this.hasAttribute('allow-unverified');
  }

  /** Nothing verified can be had. */
  #refuse({ reason, code }: Lack, signal: AbortSignal): void {
    if (reason === 'no-session' && Hls.isSupported() && !LASTING.includes(code)) {
      this.#later(() => this.#startAnew(), this.#starts++, signal);
      return;
    }
    const why = reason === 'no-session' ? 'The tracker does not let this page in' : MISSING_TEXT[reason];
    this.#fail({
      name: reason,
      message: `${why}, and it plays verified media alone (verify-key).`,
      fatal: true,
      ...(code === undefined ? {} : { code }),
    });
  }

  #startAnew(plainly?: PlainReason): void {
    const starts = this.#starts;
    this.#stop();
    this.#starts = starts;
    void this.#start(plainly);
  }

  /** Waits for a stream that is not there (yet), ever longer. */
  #later(again: () => void, failures: number, signal: AbortSignal): void {
    this.#say('Waiting for the stream …');
    const pause = Math.min(RETRY_MS * 2 ** failures, RETRY_MS_MAX) * (0.5 + Math.random() / 2);
    const timer = setTimeout(again, pause);
    signal.addEventListener('abort', () => clearTimeout(timer), { once: true });
  }

  #attributesLack(): string | undefined {
    return this.hasAttribute('src') ? undefined : 'A player needs the attributes stream and tracker, or src.';
  }

  #options(): SessionOptions | undefined {
    const [stream, tracker] = [this.getAttribute('stream'), this.getAttribute('tracker')];
    if (!stream || !tracker) return undefined;
    const [verifyKey, ticket] = [this.getAttribute('verify-key'), this.#ticket(stream)];
    return {
      stream,
      tracker: new URL(tracker, this.baseURI).href.replace(/\/+$/, ''),
      ...(verifyKey === null ? {} : { verifyKey }),
      ...(ticket === undefined ? {} : { ticket }),
    };
  }

  #ticket(stream: string): SessionOptions['ticket'] {
    if (this.onticket !== undefined) return this.onticket;
    const url = this.getAttribute('ticket-url');
    return url === null ? undefined : (key) => fetchTicket(new URL(url, this.baseURI), stream, key);
  }

  /** Opens a session, or says why there is none, or not all of one. */
  async #openSession(options: SessionOptions, signal: AbortSignal): Promise<Lack | undefined> {
    const missing = missingSupport();
    const isAllMissing = missing !== undefined && missing !== 'webrtc';
    if (missing !== undefined && !(isAllMissing && this.#mustVerify)) {
      const instead = isAllMissing ? 'it plays plain HLS' : 'everything comes by HTTP, verified all the same';
      this.#fail({ name: missing, message: `${MISSING_TEXT[missing]}: ${instead}.`, fatal: false });
    }
    if (isAllMissing) return { reason: missing };
    const open = MillstreamPlayer.openSession;
    if (open === undefined || !Hls.isSupported()) return { reason: 'no-session' };
    // A media source takes a tenth of a second to open: meanwhile the session is opened.
    const coming = new ComingSwarm();
    this.#attach(new Hls(swarmConfig(Hls, coming)), signal);
    try {
      const session = await open(
        {
          ...options,
          dataChannels: missing === undefined,
          onevent: (event) => this.#happened(event),
          onended: (error, reason) => this.#ended(error, reason, signal),
          ...(this.onplayed === undefined ? {} : { onplayed: this.onplayed }),
        },
        signal,
      );
      if (signal.aborted) session.close();
      else this.#session = coming.session = session;
      return missing === undefined ? undefined : { reason: missing };
    } catch (error) {
      if (!signal.aborted) this.#detach();
      const code = error instanceof SessionRefused ? { code: error.code } : {};
      const message = `No session: ${String((error as Error).message)}`;
      if (!signal.aborted) this.#fail({ name: 'no-session', message, fatal: false, ...code });
      return { reason: 'no-session', ...code };
    }
  }

  /** A session ended by itself. */
  #ended(error: unknown, reason: EndReason, signal: AbortSignal): void {
    if (signal.aborted || reason === 'put-away') return;
    const isTrapped = reason === 'trapped';
    const message = `The session ended: ${String((error as Error).message)}`;
    this.#fail({ name: isTrapped ? 'wasm' : 'no-session', message, fatal: false });
    if (!isTrapped) this.#startAnew();
    else if (this.#mustVerify) this.#later(() => this.#startAnew(), this.#starts++, signal);
    else this.#startAnew('wasm');
  }

  #happened(event: SwarmEvent): void {
    switch (event.type) {
      case 'edge_ready':
        return this.#emit<EdgeDetail>('ms-edge', { edge: event.edge, state: 'connected', afterMs: event.after_ms });
      case 'edge_lost': {
        const { edge, reason } = event;
        return this.#emit<EdgeDetail>('ms-edge', { edge, state: 'lost', ...(reason === undefined ? {} : { reason }) });
      }
      case 'bad_piece': {
        const { edge, rendition, number } = event;
        return this.#emit<BadPieceDetail>('ms-bad-piece', { source: edge ?? 'origin', rendition, number });
      }
      case 'refused': {
        // Later a lie is one edge's, and the swarm's business; before the first verified piece it is the stream's.
        if (this.#isDistrustTold || this.stats?.pieces.verified !== 0) return;
        this.#isDistrustTold = true;
        const message = `What is said of this stream is not signed by its root key (${event.why}).`;
        return this.#fail({ name: 'untrusted', message, fatal: false });
      }
      case 'paid':
        return this.#emit<PaidDetail>('ms-paid', { edge: event.edge, earnedMicros: event.earned });
    }
  }

  async #plain(options: SessionOptions | undefined, signal: AbortSignal): Promise<Plain> {
    const src = this.getAttribute('src');
    if (src !== null) return { url: new URL(src, this.baseURI).href };
    if (options === undefined) throw new Error('nothing to play');
    return plainPlaylist(options.tracker, options.stream, signal, options.ticket);
  }

  #load({ url, token }: Plain, signal: AbortSignal): void {
    const video = this.#video;
    if (Hls.isSupported()) {
      if (this.#hls === undefined) this.#attach(new Hls(plainConfig(token)), signal);
      this.#hls?.loadSource(url);
    } else if (video.canPlayType('application/vnd.apple.mpegurl') !== '' && token === undefined) {
      video.src = url;
    } else {
      // A browser that plays HLS by itself shows no token, and tokens never stand in URLs.
      const message =
        token === undefined
          ? 'This browser can play neither Media Source Extensions nor HLS.'
          : 'This browser has no Media Source Extensions, without which only public streams can be played.';
      this.#fail({ name: 'unsupported', message, fatal: true });
      return;
    }
    this.#playhead = new Playhead(video, this.#hls, this.#began);
    this.#session?.watch(this.#playhead);
    this.#tellStats(signal);
    if (this.hasAttribute('autoplay')) void this.play();
    else this.#find('.play').hidden = video.controls;
  }

  #attach(hls: Hls, signal: AbortSignal): void {
    this.#hls = hls;
    hls.on(Hls.Events.ERROR, (_, data) => this.#hlsFailed(hls, data, signal));
    hls.on(Hls.Events.MANIFEST_PARSED, () => {
      this.#retries = 0;
      if (this.#isPlaying && this.#video.paused) void this.play();
    });
    hls.on(Hls.Events.FRAG_LOADED, (_, { frag, part }) => (this.#plainBytes += (part ?? frag).stats.loaded));
    hls.attachMedia(this.#video);
  }

  #detach(): void {
    this.#hls?.destroy();
    this.#hls = undefined;
  }

  #hlsFailed(hls: Hls, data: ErrorData, signal: AbortSignal): void {
    if (!data.fatal || signal.aborted) return;
    const { type, details } = data;
    if (type === Hls.ErrorTypes.MEDIA_ERROR) {
      const now = performance.now();
      this.#recoveries = [...this.#recoveries.filter((at) => now - at < RECOVERY_MS), now];
      this.#fail({ name: 'media', message: `A media error is being mended (${details}).`, fatal: false });
      if (this.#recoveries.length <= MEDIA_RECOVERIES_MAX) hls.recoverMediaError();
      else this.#later(() => this.#startAnew(), this.#starts++, signal);
    } else if (type === Hls.ErrorTypes.NETWORK_ERROR) {
      this.#fail({ name: 'no-stream', message: `The stream is away (${details}).`, fatal: false });
      // A token that is good no longer is got anew with all the rest.
      const again = data.response?.code === 401 ? () => this.#startAnew() : () => hls.loadSource(hls.url ?? '');
      this.#later(again, this.#retries++, signal);
    } else {
      this.#fail({ name: 'media', message: `Playback ended (${details}).`, fatal: true });
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

  #plainStats(playhead: Playhead): PlayerStats {
    const { bufferMs, stalls, startupMs, rendition, estimatedLatencyMs } = playhead;
    return {
      mode: 'plain',
      bytes: { edge: 0, peer: 0, origin: this.#plainBytes },
      edges: [],
      pieces: { verified: 0, rejected: 0 },
      stalls,
      bufferMs,
      bitsPerSecond: this.#hls?.bandwidthEstimate ?? 0,
      ...(estimatedLatencyMs === undefined ? {} : { latencyMs: estimatedLatencyMs }),
      ...(rendition === undefined ? {} : { rendition }),
      ...(startupMs === undefined ? {} : { startupMs }),
    };
  }

  #fail(detail: ErrorDetail): void {
    this.#emit<ErrorDetail>('ms-error', detail);
    if (detail.fatal) this.#say(detail.message);
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
    this.#playhead?.close();
    this.#detach();
    this.#session?.close();
    this.#running = this.#playhead = this.#session = undefined;
    this.#recoveries = [];
    this.#retries = this.#starts = this.#plainBytes = 0;
    this.#isDistrustTold = false;
    this.#find('.live').hidden = this.#find('.play').hidden = true;
    this.#say(undefined);
  }

  #find<E extends HTMLElement = HTMLElement>(selector: string): E {
    const found = this.#root.querySelector<E>(selector);
    if (found === null) throw new Error(`the player has no ${selector}`);
    return found;
  }
}

/** What is wrong with a root key, when something is: a page that pins one must not play without it. */
function keyComplaint(key: string | undefined): string | undefined {
  if (key === undefined || fromBase64Url(key)?.length === ROOT_KEY_BYTES) return undefined;
  return 'verify-key is no Ed25519 public key in base64url.';
}

/** Asks the page's own server, with its cookies, for a ticket. */
async function fetchTicket(url: URL, stream: string, key: string): Promise<string> {
  url.searchParams.set('stream', stream);
  url.searchParams.set('key', key);
  const patience = new AbortController();
  const timer = setTimeout(() => patience.abort(), TICKET_TIMEOUT_MS);
  try {
    const response = await fetch(url, { credentials: 'include', cache: 'no-store', signal: patience.signal });
    if (!response.ok) throw new Error(`${url.origin} answered ${response.status}`);
    return (await response.text()).trim().slice(0, TICKET_CHARACTERS_MAX);
  } finally {
    clearTimeout(timer);
  }
}

function plainConfig(token: string | undefined): Partial<HlsConfig> {
  if (token === undefined) return {};
  return { xhrSetup: (xhr) => xhr.setRequestHeader('Authorization', `Bearer ${token}`) };
}
