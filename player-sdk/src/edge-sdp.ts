// The SDP answer that an edge would have sent, written by the page itself: an edge has a fixed password and certificate,
// so everything in its answer is known from the tracker's offer. And what an edge behind NAT is told instead.
//
// All of the former comes from outside and ends up in a text format: each field is held to its alphabet before it does.

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
  /** It lets nobody in whom it has not sent something first, so it is told where we are. */
  readonly behind_nat?: boolean;
  /** STUN servers that tell us, `host:port`. */
  readonly stun?: readonly string[];
}

/** What we offer to send in one message, and so what the edge must take. */
const EDGE_MESSAGE_BYTES_MAX = 65_600;

/** As the tracker: more addresses than this are a mistake. */
const SOCKETS_MAX = 4;

/** As the tracker: two that agree are enough, and two may be away. */
const STUN_MAX = 4;

const ICE_UFRAG = /^[A-Za-z0-9+/]{4,256}$/;
const ICE_PASSWORD = /^[A-Za-z0-9+/]{22,256}$/;
/** `host:port`, the host an IPv6 address in brackets, an IPv4 address or a name. */
const SOCKET = /^(?:\[([0-9A-Fa-f:.]{2,45})\]|([A-Za-z0-9.-]{1,253})):(\d{1,5})$/;
const IPV4 = /^(?:(?:25[0-5]|2[0-4]\d|1?\d?\d)(?:\.(?!$)|$)){4}$/;
/** What an edge can reach: UDP by its literal address. Names (mDNS) mean nothing outside our own network. */
const CANDIDATE = /^candidate:\S+ 1 udp \d+ ([\d.]+|[\dA-Fa-f:]+) ([1-9]\d*) typ (?:host|srflx)\b/i;
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
    // One behind NAT sends checks of its own.
    ...(address.behind_nat ? [] : ['a=ice-lite']),
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

/** The ICE servers for a connection to this edge. What is none is left out: a browser would throw. */
export function iceServers({ behind_nat, stun }: EdgeAddress): RTCIceServer[] {
  if (!behind_nat || !Array.isArray(stun)) return [];
  const sound = (stun as unknown[]).filter((server) => typeof server === 'string' && readSocket(server) !== undefined);
  return sound.slice(0, STUN_MAX).map((server) => ({ urls: `stun:${server}` }));
}

/** A candidate of ours as `host:port`; undefined for one that an edge cannot reach. */
export function candidateSocket(line: string): string | undefined {
  const [, ip, port] = CANDIDATE.exec(line) ?? [];
  return ip && `${ip.includes(':') ? `[${ip}]` : ip}:${port}`;
}

/** Name and password of our side, as an offer says them. */
export function iceOf(offer: string): { readonly ufrag: string | undefined; readonly password: string | undefined } {
  const value = (name: string) => new RegExp(`^a=ice-${name}:(\\S+)`, 'm').exec(offer)?.[1];
  return { ufrag: value('ufrag'), password: value('pwd') };
}

function candidate(text: string, at: number): string {
  const socket = readSocket(text);
  if (!socket?.isAddress) throw new SdpError(`${text} is no UDP address`);
  // RFC 8445, section 5.1.2.1: host candidates, the first one preferred.
  const priority = 2 ** 24 * 126 + 2 ** 8 * (65_535 - at) + 255;
  return `a=candidate:${at + 1} 1 udp ${priority} ${socket.host} ${socket.port} typ host`;
}

/** A name for an address would make the browser ask a resolver, or refuse. */
function readSocket(text: string): { readonly host: string; readonly port: number; readonly isAddress: boolean } | undefined {
  const [, ipv6, name = '', digits] = SOCKET.exec(text) ?? [];
  const port = Number(digits);
  if (!(port > 0 && port < 65_536) || (ipv6 !== undefined && !isIpv6(ipv6))) return undefined;
  return { host: ipv6 ?? name, port, isAddress: ipv6 !== undefined || IPV4.test(name) };
}

function isIpv6(host: string): boolean {
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
