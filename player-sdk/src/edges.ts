// The data channels of one session, by edge. When to open and close them is the swarm's to say.

import { EdgeConnection } from './edge-connection';
import type { EdgeAddress } from './edge-sdp';
import { edgeName } from './wasm/port';

type Bytes = Uint8Array<ArrayBuffer>;

/** Whom to tell. */
export interface EdgesOptions {
  readonly onopen: (edge: Bytes, fingerprint: Bytes) => void;
  /** It could not be opened, or it ended. Not told of what was disconnected from here. */
  readonly onclose: (edge: Bytes) => void;
  readonly onmessage: (edge: Bytes, frame: Uint8Array) => void;
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

  constructor(options: EdgesOptions) {
    this.#options = options;
  }

  connect(edge: Bytes, address: EdgeAddress): void {
    this.disconnect(edge);
    const { onopen, onclose, onmessage, certificate } = this.#options;
    const name = edgeName(edge);
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
