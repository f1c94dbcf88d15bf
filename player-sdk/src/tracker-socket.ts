// The one WebSocket to the tracker: JSON both ways, opened again with growing, jittered pauses for as long as the
// page lives. The show goes on without it, so nothing here is urgent and nothing is queued while it is down: what
// must survive a reconnect is said again by whoever said it.

/** Any message has a type. */
export interface Typed {
  readonly type: string;
}

/** Where the socket is in its life. */
export type TrackerState = 'connecting' | 'open' | 'waiting' | 'closed';

/** Whom to tell, and what tests replace. */
export interface TrackerSocketOptions<In extends Typed> {
  /** A message came. Its type was looked at, its fields were not. */
  readonly onmessage: (message: In) => void;
  /** The state changed. Each `open` is a new connection: the tracker speaks first, then join or resume. */
  readonly onstate?: (state: TrackerState) => void;
  /** Uniform in [0, 1). */
  readonly random?: () => number;
  readonly WebSocket?: typeof WebSocket;
}

/** As the tracker: a welcome with a few edges has 4 KiB. Counted in UTF-16 units on the way in, which never exceed
 * bytes. */
const MESSAGE_BYTES_MAX = 64 * 1024;

/** More than this unsent means that the connection is dead and has not noticed: it is given up. */
const SEND_QUEUE_BYTES_MAX = 256 * 1024;

/** The first pause is up to this long. */
const PAUSE_MS = 500;

/** A tracker that restarts must not meet all its viewers in one second, nor lose them for minutes. */
const PAUSE_MS_MAX = 30_000;

/** A connection that lived this long was good: the next pause is short again. */
const GOOD_AFTER_MS = 10_000;

/** A socket that neither opens nor fails (a captive portal) is given up. */
const OPEN_TIMEOUT_MS = 10_000;

/** More unreadable messages than this on one connection, and it is not a tracker that we talk to. */
const UNREADABLE_MAX = 8;

/** A reconnecting WebSocket with typed messages. */
export class TrackerSocket<In extends Typed, Out extends Typed> {
  readonly #url: string;
  readonly #options: TrackerSocketOptions<In>;
  readonly #random: () => number;
  #socket: WebSocket | undefined;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #state: TrackerState = 'closed';
  #failures = 0;
  #openedAt = 0;
  #unreadable = 0;

  /** `url` is `ws:` or `wss:`. Nothing happens before `connect`. */
  constructor(url: string, options: TrackerSocketOptions<In>) {
    this.#url = url;
    this.#options = options;
    this.#random = options.random ?? Math.random;
  }

  get state(): TrackerState {
    return this.#state;
  }

  /** Connects, and keeps connecting until `close`. */
  connect(): void {
    if (this.#state === 'closed') this.#dial();
  }

  /** Sends; false when the socket is not open, its queue is full, or the message is too long. */
  send(message: Out): boolean {
    const socket = this.#socket;
    if (this.#state !== 'open' || socket === undefined) return false;
    const text = JSON.stringify(message);
    const bytes = text.length <= MESSAGE_BYTES_MAX ? new TextEncoder().encode(text).length : Infinity;
    if (bytes > MESSAGE_BYTES_MAX) return false;
    if (socket.bufferedAmount + bytes > SEND_QUEUE_BYTES_MAX) {
      this.#lost();
      return false;
    }
    socket.send(text);
    return true;
  }

  /** Drops the connection and comes back after `pauseMs` at least: the tracker said goaway. */
  comeBack(pauseMs: number): void {
    if (this.#state === 'closed') return;
    this.#drop(1000);
    this.#wait(Math.min(Math.max(pauseMs, 0), PAUSE_MS_MAX) * (1 + this.#random()));
  }

  /** Connects anew without a pause: the network is another one, and what was open is dead without knowing it. */
  again(): void {
    if (this.#state !== 'open' && this.#state !== 'waiting') return;
    this.#drop(1000);
    this.#wait(0);
  }

  /** Ends it. `connect` begins anew. */
  close(): void {
    this.#drop(1000);
    this.#failures = 0;
    this.#enter('closed');
  }

  #dial(): void {
    this.#enter('connecting');
    let socket: WebSocket;
    try {
      socket = new (this.#options.WebSocket ?? WebSocket)(this.#url);
    } catch {
      // A page whose policy forbids it says so at once; a later page load may allow it, this one will not hammer.
      this.#lost();
      return;
    }
    this.#socket = socket;
    this.#unreadable = 0;
    this.#timer = setTimeout(() => this.#lost(), OPEN_TIMEOUT_MS);
    socket.onopen = () => {
      clearTimeout(this.#timer);
      this.#openedAt = Date.now();
      this.#enter('open');
    };
    socket.onclose = () => this.#lost();
    socket.onmessage = (event: MessageEvent<unknown>) => this.#received(event.data);
  }

  #received(data: unknown): void {
    const message = typeof data === 'string' && data.length <= MESSAGE_BYTES_MAX ? readTyped(data) : undefined;
    if (message !== undefined) this.#options.onmessage(message as In);
    else if (++this.#unreadable > UNREADABLE_MAX) this.#lost();
  }

  #lost(): void {
    const lived = this.#state === 'open' ? Date.now() - this.#openedAt : 0;
    this.#drop(1000);
    if (lived >= GOOD_AFTER_MS) this.#failures = 0;
    const pauseMax = Math.min(PAUSE_MS * 2 ** this.#failures, PAUSE_MS_MAX);
    this.#failures = Math.min(this.#failures + 1, 16);
    // At least half of the pause: full jitter would let a few viewers hammer.
    this.#wait((pauseMax * (1 + this.#random())) / 2);
  }

  #wait(pauseMs: number): void {
    this.#enter('waiting');
    // The listener may have closed us.
    if (this.#state === 'waiting') this.#timer = setTimeout(() => this.#dial(), pauseMs);
  }

  #drop(code: number): void {
    clearTimeout(this.#timer);
    const socket = this.#socket;
    this.#socket = undefined;
    if (socket === undefined) return;
    socket.onopen = socket.onclose = socket.onmessage = null;
    socket.close(code);
  }

  #enter(state: TrackerState): void {
    if (this.#state === state) return;
    this.#state = state;
    this.#options.onstate?.(state);
  }
}

function readTyped(text: string): Typed | undefined {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null && typeof (value as Typed).type === 'string'
      ? (value as Typed)
      : undefined;
  } catch {
    return undefined;
  }
}
