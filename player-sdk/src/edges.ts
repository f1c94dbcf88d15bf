// The data channels of one session, by edge. When to open and close them is the swarm's to say.

import { EdgeConnection } from './edge-connection';
import type { EdgeAddress } from './edge-sdp';
import type { EdgeOffer } from './tracker-messages';
import { edgeName } from './wasm/port';

type Bytes = Uint8Array<ArrayBuffer>;

/** Addresses held at most: ten times as many edges as a swarm has at a time. */
const ADDRESSES_MAX = 60;

/** Whom to tell. */
export interface EdgesOptions {
  readonly onopen: (edge: Bytes, fingerprint: Bytes) => void;
  /** It could not be opened, or it ended. Not told of what was disconnected from here. */
  readonly onclose: (edge: Bytes) => void;
  readonly onmessage: (edge: Bytes, frame: Uint8Array) => void;
  /** An edge behind NAT, by its name, has to be told where we are. */
  readonly onsignal: (edge: string, data: string) => void;
  /** One certificate for all. */
  readonly certificate: Promise<RTCCertificate> | undefined;
}

interface Attempt {
  readonly opening: AbortController;
  connection?: EdgeConnection;
}

/** Connections to edges. */
export class Edges {
  readonly #options: EdgesOptions;
  readonly #attempts = new Map<string, Attempt>();
  readonly #addresses = new Map<string, EdgeAddress>();

  constructor(options: EdgesOptions) {
    this.#options = options;
  }

  /** Where edges are, as the tracker says. None of it was looked at. */
  know(offers: readonly EdgeOffer[]): void {
    if (this.#addresses.size > ADDRESSES_MAX) this.#addresses.clear();
    for (const { id, address } of offers) this.#addresses.set(id, address);
  }

  connect(edge: Bytes): void {
    this.disconnect(edge);
    const { onopen, onclose, onmessage, onsignal, certificate } = this.#options;
    const name = edgeName(edge);
    // One that nobody named, like one that is none, fails as an edge does that is away.
    const address = this.#addresses.get(name) as EdgeAddress;
    const attempt: Attempt = { opening: new AbortController() };
    this.#attempts.set(name, attempt);
    const current = () => this.#attempts.get(name) === attempt;
    const ended = () => {
      if (!current()) return;
      this.#attempts.delete(name);
      onclose(edge);
    };
    const open = async () =>
      EdgeConnection.open(address, {
        onmessage: (_, bytes) => current() && onmessage(edge, new Uint8Array(bytes)),
        onclose: ended,
        onsignal: (data) => onsignal(name, data),
        signal: attempt.opening.signal,
        ...(certificate === undefined ? {} : { certificate: await certificate }),
      });
    open().then((connection) => {
      if (!current()) return connection.close();
      attempt.connection = connection;
      onopen(edge, connection.localFingerprint);
    }, ended);
  }

  disconnect(edge: Uint8Array): void {
    const name = edgeName(edge);
    const attempt = this.#attempts.get(name);
    this.#attempts.delete(name);
    attempt?.opening.abort();
    attempt?.connection?.close();
  }

  /** A frame that cannot be sent ends the connection: the swarm counts on each of them. */
  send(edge: Bytes, frame: Bytes): void {
    const attempt = this.#attempts.get(edgeName(edge));
    if (attempt?.connection === undefined || attempt.connection.send('control', frame)) return;
    this.disconnect(edge);
    // Not from within the swarm's own output.
    queueMicrotask(() => this.#options.onclose(edge));
  }

  close(): void {
    for (const { opening, connection } of this.#attempts.values()) {
      opening.abort();
      connection?.close();
    }
    this.#attempts.clear();
  }
}
