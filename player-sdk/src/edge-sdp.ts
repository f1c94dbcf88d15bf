// The SDP answer that a public edge would have sent, written by the page itself: an edge is ICE-lite with a fixed
// password and certificate, so everything in its answer is known from the tracker's offer.
//
// All of it comes from outside and ends up in a text format: each field is held to its alphabet before it does.

import { fromBase64Url } from './bytes';

/** Where an edge listens for data channels: `EdgeAddress` in `crates/wire/src/tracker/mod.rs`. */
export interface EdgeAddress {
  /** UDP addresses, `192.0.2.1:4443` or `[2001:db8::1]:4443`, best first; 1 to 4. */
  readonly sockets: readonly string[];
  /** ICE user name fragment. */
  readonly ufrag: string;
  /** ICE password. Not a secret. */
  readonly password: string;
  /** SHA-256 of the edge's DTLS certificate, base64url. */
  readonly fingerprint: string;
}

/** What we offer to send in one message, and so what the edge must take. */
const EDGE_MESSAGE_BYTES_MAX = 65_600;

/** As the tracker: more addresses than this are a mistake. */
const SOCKETS_MAX = 4;

const ICE_UFRAG = /^[A-Za-z0-9+/]{4,256}$/;
const ICE_PASSWORD = /^[A-Za-z0-9+/]{22,256}$/;
const IPV4_SOCKET = /^((?:\d{1,3}\.){3}\d{1,3}):(\d{1,5})$/;
const IPV6_SOCKET = /^\[([0-9A-Fa-f:.]{2,45})\]:(\d{1,5})$/;
const FINGERPRINT_BYTES = 32;

/** An address or a local description that cannot be used. */
export class SdpError extends Error {
  override readonly name = 'SdpError';
}

/** The edge's answer to `offer`. */
export function answerSdp(address: EdgeAddress, offer: string): string {
  if (!ICE_UFRAG.test(address.ufrag)) throw new SdpError('the edge has no usable ufrag');
  if (!ICE_PASSWORD.test(address.password)) throw new SdpError('the edge has no usable ICE password');
  if (address.sockets.length === 0 || address.sockets.length > SOCKETS_MAX) {
    throw new SdpError(`an edge has 1 to ${SOCKETS_MAX} addresses, not ${address.sockets.length}`);
  }
  const mid = /^a=mid:([!-~]+)/m.exec(offer)?.[1] ?? '0';
  const candidates = address.sockets.map((socket, at) => candidate(socket, at));
  return [
    'v=0',
    'o=- 1 1 IN IP4 0.0.0.0',
    's=-',
    't=0 0',
    'a=ice-lite',
    `a=group:BUNDLE ${mid}`,
    'm=application 9 UDP/DTLS/SCTP webrtc-datachannel',
    'c=IN IP4 0.0.0.0',
    `a=mid:${mid}`,
    `a=ice-ufrag:${address.ufrag}`,
    `a=ice-pwd:${address.password}`,
    `a=fingerprint:sha-256 ${colonHex(edgeFingerprint(address))}`,
    'a=setup:passive',
    'a=sctp-port:5000',
    `a=max-message-size:${EDGE_MESSAGE_BYTES_MAX}`,
    ...candidates,
    'a=end-of-candidates',
    '',
  ].join('\r\n');
}

/** The SHA-256 fingerprint in a description, 32 bytes. */
export function fingerprintOf(sdp: string): Uint8Array<ArrayBuffer> {
  const text = /^a=fingerprint:sha-256 ((?:[0-9A-Fa-f]{2}:){31}[0-9A-Fa-f]{2})\s*$/im.exec(sdp)?.[1];
  if (text === undefined) throw new SdpError('the browser named no SHA-256 fingerprint');
  return Uint8Array.from(text.split(':'), (byte) => Number.parseInt(byte, 16));
}

function candidate(socket: string, at: number): string {
  const [, host, port] = IPV4_SOCKET.exec(socket) ?? IPV6_SOCKET.exec(socket) ?? [];
  const number = Number(port);
  if (host === undefined || number < 1 || number > 65_535) throw new SdpError(`${socket} is no UDP address`);
  if (!isAddress(host)) throw new SdpError(`${host} is no IP address`);
  // RFC 8445, section 5.1.2.1: host candidates, the first one preferred.
  const priority = 2 ** 24 * 126 + 2 ** 8 * (65_535 - at) + 255;
  return `a=candidate:${at + 1} 1 udp ${priority} ${host} ${number} typ host`;
}

/** A literal IP address: a name would make the browser ask a resolver, or refuse. */
function isAddress(host: string): boolean {
  if (!host.includes(':')) return host.split('.').every((octet) => Number(octet) <= 255);
  try {
    // The URL parser holds the whole grammar of IPv6 literals.
    return new URL(`http://[${host}]/`).hostname !== '';
  } catch {
    return false;
  }
}

function edgeFingerprint(address: EdgeAddress): Uint8Array {
  const bytes = fromBase64Url(address.fingerprint);
  if (bytes?.length !== FINGERPRINT_BYTES) throw new SdpError('the edge has no usable fingerprint');
  return bytes;
}

function colonHex(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0').toUpperCase()).join(':');
}
