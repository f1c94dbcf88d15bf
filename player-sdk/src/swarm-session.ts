// A session in the swarm: the Rust core and what it cannot have in wasm, which is sockets, HTTP, keys and time.
//
//   hls.js ── wants ──►┌──────┐── messages ── tracker socket ──► tracker
//   video ─ playhead ─►│ port │── frames ──── edges ───────────► edges
//   timers ───────────►└──────┘── gets ──────────────────────► origin
//
// The port decides, everything else here carries. Whatever goes in, what comes out is done before anything else goes in.

import { toBase64Url } from './bytes';
import { Edges } from './edges';
import { Gets } from './gets';
import type { MediaRequest, Swarm, Watch } from './hls/swarm';
import type { Playhead } from './playhead';
import { type EndReason, type OpenSession, type Session, type SessionOptions, SessionRefused } from './session';
import { SessionKey } from './session-key';
import type { EdgeStats, PlayerStats } from './stats';
import type { FaultCode, FromViewer, ToViewer } from './tracker-messages';
import { TrackerSocket, type TrackerState, type Typed } from './tracker-socket';
import { TARGET_LATENCY_S } from './hls/attach';
import { Door } from './wasm/instance';
import { type Figures, type Output, Port, type SwarmEvent } from './wasm/port';
import { Wants } from './wants';

/** A tracker answers within a few round trips; after this the page plays plain HLS. */
const JOIN_TIMEOUT_MS = 8_000;

/** How often the swarm is told where the playhead is: deadlines are counted in seconds. */
const PLAYHEAD_MS = 250;

/** Figures are asked for by several at once, and change little meanwhile. */
const FIGURES_MS = 200;

/** The last vouchers take WebCrypto a few milliseconds; a page that closes may have no more. */
const FAREWELL_MS = 1_000;

/** Timers are 32 bits wide in browsers, and a swarm that has nothing to do says so with a far deadline. */
const TIMER_MS_MAX = 60_000;

const CERTIFICATE = { name: 'ECDSA', namedCurve: 'P-256' } as const;

/** Opens a session in the swarm. Whatever takes time is begun at once. */
export const openSwarmSession: OpenSession = async (options, signal) => {
  const dataChannels = options.dataChannels ?? true;
  const certificate = dataChannels ? RTCPeerConnection.generateCertificate(CERTIFICATE) : undefined;
  const opening = Promise.all([keyAndTicket(options), Door.open()]);

  let session: SwarmSession | undefined;
  // What the tracker said before the module was there.
  let early: ToViewer[] = [];
  let wasOpened = false;
  const socket = new TrackerSocket<ToViewer, Typed>(`${options.tracker.replace(/^http/, 'ws')}/v1/viewer`, {
    onmessage: (message) => (session === undefined ? early.push(message) : session.trackerSays(message)),
    onstate: (state) => {
      early = [];
      wasOpened = state === 'open';
      session?.trackerIs(state);
    },
  });
  socket.connect();
  try {
    const [{ key, ticket }, door] = await opening;
    signal.throwIfAborted();
    session = new SwarmSession({ ...options, dataChannels }, { key, ticket }, door, certificate, socket);
  } catch (error) {
    socket.close();
    throw error;
  }
  const said = early;
  if (wasOpened) session.trackerIs('open');
  for (const message of said) session.trackerSays(message);
  await session.joined(signal);
  return session;
};

interface Permission {
  readonly key: SessionKey;
  readonly ticket: string | undefined;
}

async function keyAndTicket({ ticket }: SessionOptions): Promise<Permission> {
  const key = await SessionKey.generate();
  try {
    return { key, ticket: await ticket?.(toBase64Url(key.publicKey)) };
  } catch (error) {
    throw new SessionRefused('bad_ticket', `no ticket: ${String((error as Error).message)}`);
  }
}

class SwarmSession implements Session, Swarm {
  readonly #options: SessionOptions;
  readonly #key: SessionKey;
  readonly #port: Port;
  readonly #socket: TrackerSocket<ToViewer, Typed>;
  readonly #edges: Edges;
  readonly #gets: Gets;
  readonly #wants: Wants;
  readonly #lost = new Set<string>();
  // A page that comes back from the browser's cache finds its sockets dead: better to say farewell while we can.
  readonly #onpagehide = () => {
    if (this.#state !== 'open') return;
    this.close();
    this.#outside(() => this.#options.onended?.(new Error('the page was put away'), 'put-away'));
  };
  readonly #ononline = () => this.#socket.again();
  #state: 'open' | 'leaving' | 'closed' = 'open';
  #join!: { resolve(): void; reject(error: unknown): void };
  readonly #joined = new Promise<void>((resolve, reject) => (this.#join = { resolve, reject }));
  #isJoining = true;
  #timer: { readonly at: number; readonly id: ReturnType<typeof setTimeout> } | undefined;
  #reporting: ReturnType<typeof setInterval> | undefined;
  #farewell: ReturnType<typeof setTimeout> | undefined;
  #playhead: Playhead | undefined;
  #figures: { readonly at: number; readonly figures: Figures } | undefined;

  readonly url: string;
  readonly bandwidth = {
    bitsPerSecond: () => this.#now().estimate,
    firstByteMs: () => this.#now().edges.find(({ primary }) => primary)?.rtt_ms ?? 0,
  };

  constructor(
    options: SessionOptions,
    { key, ticket }: Permission,
    door: Door,
    certificate: Promise<RTCCertificate> | undefined,
    socket: TrackerSocket<ToViewer, Typed>,
  ) {
    const { stream, tracker, verifyKey, dataChannels } = options;
    this.#options = options;
    this.#key = key;
    this.#socket = socket;
    // Any URL whose path is a stream's would do: the loader answers it, nobody fetches it.
    this.url = new URL(`/s/${encodeURIComponent(stream)}/index.m3u8`, tracker).href;
    this.#port = new Port(door, {
      stream,
      key: toBase64Url(key.publicKey),
      ...(ticket === undefined ? {} : { ticket }),
      ...(verifyKey === undefined ? {} : { root: verifyKey }),
      wall: Date.now(),
      latency_ms: TARGET_LATENCY_S * 1_000,
      data_channels: dataChannels ?? true,
      seed: String(crypto.getRandomValues(new BigUint64Array(1))[0]),
    });
    this.#wants = new Wants((input) => this.#tell(input));
    this.#gets = new Gets(
      (id, body) => this.#tell((port) => port.got(id, body)),
      (id, status) => this.#tell((port) => port.notGot(id, status)),
    );
    this.#edges = new Edges({
      onopen: (edge, fingerprint) => this.#tell((port) => port.edgeOpen(edge, fingerprint)),
      onclose: (edge) => this.#tell((port) => port.edgeClosed(edge)),
      onmessage: (edge, frame) => this.#tell((port) => port.edgeSays(edge, frame)),
      onsignal: (peer, data) => {
        const signal: FromViewer = { type: 'signal', peer, data };
        socket.send(signal);
      },
      certificate,
    });
    this.#reporting = setInterval(() => this.#report(), PLAYHEAD_MS);
    globalThis.addEventListener?.('pagehide', this.#onpagehide);
    globalThis.addEventListener?.('online', this.#ononline);
    // Whoever waits for it hears of it.
    this.#joined.catch(() => {});
  }

  /** Resolves when the tracker let us in. */
  async joined(signal: AbortSignal): Promise<void> {
    const timer = setTimeout(() => refuse('unreachable', 'the tracker does not answer'), JOIN_TIMEOUT_MS);
    const refuse = (code: FaultCode | 'unreachable', message: string) =>
      this.#join.reject(new SessionRefused(code, message));
    const abort = () => this.#join.reject(signal.reason);
    signal.addEventListener('abort', abort, { once: true });
    try {
      await this.#joined;
    } catch (error) {
      this.#end();
      throw error;
    } finally {
      this.#isJoining = false;
      clearTimeout(timer);
      signal.removeEventListener('abort', abort);
    }
  }

  get swarm(): Swarm {
    return this;
  }

  load(request: MediaRequest, watch: Watch): ReturnType<Swarm['load']> {
    return this.#wants.load(request, watch);
  }

  /** Absent where nobody listens, so that nobody pays for it. */
  get played(): ((request: MediaRequest, bytes: Uint8Array<ArrayBuffer>) => void) | undefined {
    const { onplayed } = this.#options;
    return onplayed === undefined ? undefined : (request, bytes) => this.#outside(() => onplayed(request, bytes));
  }

  watch(playhead: Playhead): void {
    this.#playhead = playhead;
  }

  stats(): PlayerStats {
    const figures = this.#now();
    const playhead = this.#playhead;
    const at = playhead?.programDateTime;
    const rendition = playhead?.rendition;
    return {
      mode: 'swarm',
      bytes: { edge: figures.edge_bytes, peer: figures.peer_bytes, origin: figures.origin_bytes },
      edges: figures.edges.map((edge) => this.#edgeStats(edge)),
      pieces: { verified: figures.pieces_verified, rejected: figures.pieces_rejected },
      vouchers: { signed: figures.vouchers_signed, accepted: figures.vouchers_accepted },
      stalls: playhead?.stalls ?? { count: 0, ms: 0 },
      bufferMs: playhead?.bufferMs ?? 0,
      bitsPerSecond: figures.estimate,
      ...(at === undefined || this.#state === 'closed' ? {} : { latencyMs: this.#port.wall() - at }),
      ...(rendition === undefined ? {} : { rendition }),
      ...(playhead?.startupMs === undefined ? {} : { startupMs: playhead.startupMs }),
    };
  }

  close(): void {
    if (this.#state !== 'open') return;
    this.#tell((port) => port.leave());
    // The swarm may have left at once, when there was nothing to sign.
    if ((this.#state as string) === 'closed') return;
    this.#state = 'leaving';
    clearInterval(this.#reporting);
    this.#wants.close();
    this.#farewell = setTimeout(() => this.#end(), FAREWELL_MS);
  }

  #edgeStats({ edge, ready, primary, rtt_ms, payable, earned }: Figures['edges'][number]): EdgeStats {
    const standing = primary ? 'primary' : 'standby';
    return {
      id: edge,
      state: ready ? standing : this.#lost.has(edge) ? 'lost' : 'connecting',
      payableBytes: payable,
      paidMicros: earned,
      ...(rtt_ms === 0 ? {} : { roundTripMs: rtt_ms }),
    };
  }

  #now(): Figures {
    const now = performance.now();
    if (this.#figures !== undefined && (now - this.#figures.at < FIGURES_MS || this.#state === 'closed')) {
      return this.#figures.figures;
    }
    const figures = this.#port.figures();
    this.#figures = { at: now, figures };
    return figures;
  }

  #report(): void {
    const playhead = this.#playhead;
    const at = playhead?.programDateTime;
    if (playhead === undefined || at === undefined) return;
    const { count, ms } = playhead.stalls;
    this.#tell((port) => port.playhead(at, playhead.bufferMs, count, ms));
  }

  trackerIs(state: TrackerState): void {
    if (state === 'open') this.#tell((port) => port.trackerOpen());
    else if (state === 'waiting') this.#tell((port) => port.trackerClosed());
  }

  trackerSays(message: ToViewer): void {
    if (message.type === 'goaway') this.#socket.comeBack(message.retry_ms);
    else {
      this.#tell((port) => {
        if (!port.trackerSays(message)) return;
        if (message.type === 'welcome' || message.type === 'reassign') this.#edges.know(message.edges);
      });
    }
  }

  /** Gives the swarm an input and does what it wants done. */
  #tell(input: (port: Port) => void): void {
    if (this.#state === 'closed') return;
    try {
      input(this.#port);
      for (let output = this.#port.poll(); output !== undefined; output = this.#port.poll()) {
        this.#do(output);
        if ((this.#state as string) === 'closed') return;
      }
      this.#schedule(this.#port.deadline());
    } catch (error) {
      // The module trapped, or is not the one that this page belongs to.
      this.#join.reject(error);
      this.#over(error, 'trapped');
    }
  }

  /** Ends a session that somebody plays, and tells them. */
  #over(error: unknown, reason: EndReason): void {
    const wasOpen = this.#state === 'open' && !this.#isJoining;
    this.#end();
    if (wasOpen) this.#outside(() => this.#options.onended?.(error, reason));
  }

  /** The page's own code may throw; the show goes on, and the page's error handling hears of it. */
  #outside(call: () => void): void {
    try {
      call();
    } catch (error) {
      reportError(error);
    }
  }

  #do(output: Output): void {
    switch (output.kind) {
      case 'tracker':
        this.#socket.send(output.message);
        if (output.message.type === 'leave') this.#end();
        return;
      case 'connect': return this.#edges.connect(output.edge);
      case 'disconnect': return this.#edges.disconnect(output.edge);
      case 'send': return this.#edges.send(output.edge, output.frame);
      case 'get': return this.#gets.get(output.id, output.wish);
      case 'abort': return this.#gets.abort(output.id);
      case 'sign': return void this.#sign(output.id, output.message);
      case 'answer': return this.#wants.answer(output.id, output.data);
      case 'refuse': return this.#wants.refuse(output.id, output.status);
      case 'event': return this.#happened(output.event);
    }
  }

  async #sign(id: number, message: Uint8Array<ArrayBuffer>): Promise<void> {
    const signature = await this.#key.sign(message);
    this.#tell((port) => port.signed(id, signature));
  }

  #happened(event: SwarmEvent): void {
    if (event.type === 'joined') this.#join.resolve();
    else if (event.type === 'fault') {
      const refused = new SessionRefused(event.code as FaultCode, event.message);
      this.#join.reject(refused);
      // Away for too long, and a ticket is good once: another session with another ticket may be let in.
      if (refused.code === 'bad_ticket' && !this.#isJoining) this.#over(refused, 'bad-ticket');
    } else if (event.type === 'edge_ready') this.#lost.delete(event.edge);
    else if (event.type === 'edge_lost') this.#lost.add(event.edge);
    this.#outside(() => this.#options.onevent?.(event));
  }

  #schedule(at: number | undefined): void {
    if (at === undefined || (this.#timer !== undefined && this.#timer.at <= at)) return;
    clearTimeout(this.#timer?.id);
    const pause = Math.min(Math.max(at - performance.now(), 0), TIMER_MS_MAX);
    const due = () => {
      this.#timer = undefined;
      this.#tell((port) => port.timeout());
    };
    this.#timer = { at, id: setTimeout(due, pause) };
  }

  #end(): void {
    if (this.#state === 'closed') return;
    // The last figures stay readable.
    try {
      this.#figures = undefined;
      this.#now();
    } catch {
      // A trapped module has none.
    }
    this.#state = 'closed';
    globalThis.removeEventListener?.('pagehide', this.#onpagehide);
    globalThis.removeEventListener?.('online', this.#ononline);
    clearInterval(this.#reporting);
    clearTimeout(this.#timer?.id);
    clearTimeout(this.#farewell);
    this.#wants.close();
    this.#gets.close();
    this.#edges.close();
    this.#socket.close();
    this.#port.close();
  }
}
