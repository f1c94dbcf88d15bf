// One connection to an edge: two data channels over one UDP path, without a signalling round trip.
//
//   open     offer (kept), answer (written here), ICE, DTLS, SCTP: four round trips, both channels at once
//   signal   to an edge behind NAT, one way: where we are, so that it lets us in
//   control  ordered: everything but media        pieces  unordered: media, each piece as it arrives
//
// What the messages mean is the swarm's business.

import { answerSdp, candidateSocket, type EdgeAddress, fingerprintOf, iceOf, iceServers } from './edge-sdp';

export type { EdgeAddress } from './edge-sdp';
export { SdpError } from './edge-sdp';

/** The two data channels, by stream id: `docs/protocol/transport.md`. */
export type Channel = 'control' | 'pieces';

/** Why a connection ended. */
export type CloseReason =
  /** We closed it. */
  | 'local'
  /** The edge closed it, or its last sign of life is too long ago. */
  | 'remote'
  /** It did not open in time: the edge is gone, or UDP is blocked here. */
  | 'timeout'
  /** The edge sent more in one message than the protocol allows. */
  | 'oversized';

/** A connection that could not be opened. */
export class EdgeConnectionError extends Error {
  override readonly name = 'EdgeConnectionError';

  constructor(readonly reason: CloseReason) {
    super(`no connection to the edge (${reason})`);
  }
}

/** How to open, and whom to tell. */
export interface EdgeConnectionOptions {
  /** A message came. The buffer is the callee's. */
  readonly onmessage: (channel: Channel, bytes: ArrayBuffer) => void;
  /** It ended after it was open. Called once, and nothing after it. */
  readonly onclose?: (reason: CloseReason) => void;
  /** The edge is behind NAT and has to be told this. More may follow. */
  readonly onsignal?: (data: string) => void;
  /** Milliseconds until an open is given up. */
  readonly openTimeoutMs?: number;
  /** One certificate for all edges, so that one hello's claim serves them all. Fresh when absent. */
  readonly certificate?: RTCCertificate;
  /** Ends the opening. */
  readonly signal?: AbortSignal;
}

/** Six round trips of half a second each, and the two lost packets that a bad last mile takes. */
const OPEN_TIMEOUT_MS = 8_000;

/** A 64 KiB piece with 64 bytes of header; the datachannel crate holds the same bound. */
export const MESSAGE_BYTES_MAX = 65_600;

/** A viewer sends requests and vouchers, a few hundred bytes each: a longer queue means that the edge is gone. */
const SEND_QUEUE_BYTES_MAX = 256 * 1024;

/** Addresses that we are reached by, told to an edge behind NAT; the last ones found are those outside our own NAT. */
const CANDIDATES_MAX = 8;

/** What is found in this time is told together. */
const SIGNAL_MS = 50;

const CONTROL: RTCDataChannelInit = { negotiated: true, id: 0, ordered: true };
const PIECES: RTCDataChannelInit = { negotiated: true, id: 1, ordered: false };

/** Data channels to one edge. */
export class EdgeConnection {
  readonly #peer: RTCPeerConnection;
  readonly #channels: Readonly<Record<Channel, RTCDataChannel>>;
  readonly #options: EdgeConnectionOptions;
  #state: 'opening' | 'open' | 'closed' = 'opening';
  #fingerprint = new Uint8Array(0);
  #opened: { resolve(): void; reject(error: unknown): void } | undefined;

  /** Opens both channels; fails with `EdgeConnectionError`, or `SdpError` for an address that cannot be used. */
  static async open(address: EdgeAddress, options: EdgeConnectionOptions): Promise<EdgeConnection> {
    const connection = new EdgeConnection(address, options);
    await connection.#open(address);
    return connection;
  }

  private constructor(address: EdgeAddress, options: EdgeConnectionOptions) {
    this.#options = options;
    const certificates = options.certificate === undefined ? [] : [options.certificate];
    const asked = iceServers(address);
    this.#peer = new RTCPeerConnection({ certificates });
    const servers: RTCIceServer[] = [];
    for (const server of asked) {
      try {
        this.#peer.setConfiguration({ certificates, iceServers: [...servers, server] });
        servers.push(server);
      } catch {
        // Browsers have hosts and ports that they ask nothing of: Firefox refuses most low ports.
      }
    }
    this.#channels = { control: this.#channel('control', CONTROL), pieces: this.#channel('pieces', PIECES) };
    this.#peer.onconnectionstatechange = () => {
      if (this.#peer.connectionState === 'failed') this.#end('remote');
    };
  }

  /** SHA-256 of our own DTLS certificate, 32 bytes: what a hello claims. */
  get localFingerprint(): Uint8Array<ArrayBuffer> {
    return this.#fingerprint;
  }

  /** Whether messages can be sent. */
  get isOpen(): boolean {
    return this.#state === 'open';
  }

  /** Sends one message; false when it is too long, the channel's queue is full, or the connection is not open. */
  send(channel: Channel, bytes: Uint8Array<ArrayBuffer>): boolean {
    const to = this.#channels[channel];
    const fits = bytes.length <= MESSAGE_BYTES_MAX && to.bufferedAmount + bytes.length <= SEND_QUEUE_BYTES_MAX;
    if (this.#state !== 'open' || !fits || to.readyState !== 'open') return false;
    to.send(bytes);
    return true;
  }

  /** Bytes accepted by `send` that have not left yet. */
  bufferedAmount(channel: Channel): number {
    return this.#channels[channel].bufferedAmount;
  }

  /** The round trip as ICE measures it, in milliseconds; undefined before the first measurement. */
  async roundTripMs(): Promise<number | undefined> {
    if (this.#state === 'closed') return undefined;
    for (const report of (await this.#peer.getStats()).values() as Iterable<RTCStats>) {
      const pair = report as RTCIceCandidatePairStats;
      if (pair.type === 'candidate-pair' && pair.nominated && pair.currentRoundTripTime !== undefined) {
        return pair.currentRoundTripTime * 1_000;
      }
    }
    return undefined;
  }

  /** Ends the connection. */
  close(): void {
    this.#end('local');
  }

  async #open(address: EdgeAddress): Promise<void> {
    const opened = new Promise<void>((resolve, reject) => (this.#opened = { resolve, reject }));
    // Ended before anybody awaits it below: the failure is still told, by the await.
    opened.catch(() => {});
    const timer = setTimeout(() => this.#end('timeout'), this.#options.openTimeoutMs ?? OPEN_TIMEOUT_MS);
    const abort = () => this.#end('local');
    const signal = this.#options.signal;
    signal?.addEventListener('abort', abort, { once: true });
    try {
      if (signal?.aborted) abort();
      else await this.#describe(address);
      await opened;
    } catch (error) {
      const ended = this.#state === 'closed';
      this.#end('local');
      // A browser's complaint about a peer that ended meanwhile hides why it ended.
      if (ended) await opened;
      throw error;
    } finally {
      clearTimeout(timer);
      signal?.removeEventListener('abort', abort);
    }
  }

  async #describe(address: EdgeAddress): Promise<void> {
    const offer = await this.#peer.createOffer();
    const answer = answerSdp(address, offer.sdp ?? '');
    if (address.behind_nat) this.#peer.onicecandidate = this.#signalled(offer.sdp ?? '');
    await this.#peer.setLocalDescription(offer);
    this.#fingerprint = fingerprintOf(this.#peer.localDescription?.sdp ?? '');
    await this.#peer.setRemoteDescription({ type: 'answer', sdp: answer });
  }

  /** Hears of candidates, and tells the edge of all so far. */
  #signalled(offer: string): (event: RTCPeerConnectionIceEvent) => void {
    const own = iceOf(offer);
    const found = new Set<string>();
    let told = 0;
    let waits = false;
    const tell = () => {
      waits = false;
      if (told === found.size || this.#state !== 'opening') return;
      told = found.size;
      waits = true;
      setTimeout(tell, SIGNAL_MS);
      this.#options.onsignal?.(JSON.stringify({ ...own, candidates: [...found].slice(-CANDIDATES_MAX) }));
    };
    return ({ candidate }) => {
      const socket = candidateSocket(candidate?.candidate ?? '');
      if (socket !== undefined) found.add(socket);
      if (!waits) tell();
    };
  }

  #channel(name: Channel, init: RTCDataChannelInit): RTCDataChannel {
    const channel = this.#peer.createDataChannel(name, init);
    channel.binaryType = 'arraybuffer';
    channel.onopen = () => this.#channelOpened();
    channel.onclose = () => this.#end('remote');
    channel.onmessage = (event: MessageEvent<ArrayBuffer | string>) => this.#received(name, event.data);
    return channel;
  }

  #channelOpened(): void {
    const { control, pieces } = this.#channels;
    if (this.#state !== 'opening' || control.readyState !== 'open' || pieces.readyState !== 'open') return;
    this.#state = 'open';
    this.#opened?.resolve();
  }

  #received(channel: Channel, data: ArrayBuffer | string): void {
    if (this.#state === 'closed') return;
    // The protocol is binary: a text is a stranger's, and counts as more than is allowed.
    if (typeof data === 'string' || data.byteLength > MESSAGE_BYTES_MAX) this.#end('oversized');
    else this.#options.onmessage(channel, data);
  }

  #end(reason: CloseReason): void {
    if (this.#state === 'closed') return;
    const wasOpen = this.#state === 'open';
    this.#state = 'closed';
    for (const channel of Object.values(this.#channels)) {
      channel.onopen = channel.onclose = channel.onmessage = null;
    }
    this.#peer.onconnectionstatechange = this.#peer.onicecandidate = null;
    this.#peer.close();
    if (wasOpen) this.#options.onclose?.(reason);
    else this.#opened?.reject(new EdgeConnectionError(reason));
  }
}
