// Can this page take part in a swarm? When not, the reason has a name. Without data channels it verifies what comes by
// HTTP; without the rest it plays plain HLS.

/** What a page lacks. */
export type Missing =
  /** `http:` pages other than localhost: browsers give them no WebCrypto. */
  | 'secure-context'
  /** No WebCrypto (`crypto.subtle`). */
  | 'webcrypto'
  /** No data channels: disabled by policy or extension. */
  | 'webrtc'
  /** No WebAssembly, or none with SIMD. */
  | 'wasm';

/** A module whose one function uses a 128-bit vector: validates where SIMD is there. */
const SIMD_PROBE = Uint8Array.of(
  0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 10, 1, 8, 0, 65, 0, 253, 15, 253, 98, 11,
);

/** What is missing for a swarm, or undefined when nothing is. */
export function missingSupport(): Missing | undefined {
  if (!globalThis.isSecureContext) return 'secure-context';
  if (globalThis.crypto?.subtle === undefined) return 'webcrypto';
  if (typeof globalThis.WebAssembly?.validate !== 'function' || !WebAssembly.validate(SIMD_PROBE)) return 'wasm';
  if (typeof globalThis.DecompressionStream !== 'function') return 'wasm';
  // Last: whoever lacks nothing else goes on without it.
  if (typeof globalThis.RTCPeerConnection !== 'function') return 'webrtc';
  return undefined;
}

/** For people who look at a console or an error event; what follows from it is the player's to say. */
export const MISSING_TEXT: Readonly<Record<Missing, string>> = {
  'secure-context': 'This page is not a secure context (https:)',
  webcrypto: 'This browser has no WebCrypto',
  webrtc: 'This browser has no WebRTC data channels',
  wasm: 'This browser has no WebAssembly with SIMD',
};
