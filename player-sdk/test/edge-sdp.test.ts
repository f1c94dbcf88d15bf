import { describe, expect, it } from 'vitest';
import { toBase64Url } from '../src/bytes';
import { answerSdp, type EdgeAddress, fingerprintOf, SdpError } from '../src/edge-sdp';

const OFFER = 'v=0\r\na=group:BUNDLE data\r\nm=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\na=mid:data\r\n';

const FINGERPRINT = Uint8Array.from({ length: 32 }, (_, at) => at * 7);

const ADDRESS: EdgeAddress = {
  sockets: ['192.0.2.7:4443', '[2001:db8::7]:4444'],
  ufrag: 'edge0',
  password: 'A0+/A0+/A0+/A0+/A0+/A0+/',
  fingerprint: toBase64Url(FINGERPRINT),
};

describe('the answer an edge would have sent', () => {
  it('names every address, the best with the highest priority', () => {
    const candidates = answerSdp(ADDRESS, OFFER)
      .split('\r\n')
      .filter((line) => line.startsWith('a=candidate:'));
    expect(candidates).toEqual([
      'a=candidate:1 1 udp 2130706431 192.0.2.7 4443 typ host',
      'a=candidate:2 1 udp 2130706175 2001:db8::7 4444 typ host',
    ]);
  });

  it("keeps the offer's mid and the edge's fingerprint", () => {
    const answer = answerSdp(ADDRESS, OFFER);
    expect(answer).toContain('a=group:BUNDLE data\r\n');
    expect(answer).toContain('a=mid:data\r\n');
    expect(answer).toContain('a=setup:passive\r\n');
    expect(fingerprintOf(answer)).toEqual(FINGERPRINT);
  });

  const hostile: [string, Partial<EdgeAddress>][] = [
    ['a line break in the ufrag', { ufrag: 'edge\r\na=setup:active' }],
    ['a short password', { password: 'short' }],
    ['a line break in the password', { password: `${ADDRESS.password}\r\na=x` }],
    ['a name for an address', { sockets: ['edge.example:4443'] }],
    ['no address', { sockets: [] }],
    ['too many addresses', { sockets: Array.from({ length: 5 }, () => '192.0.2.7:1') }],
    ['an octet above 255', { sockets: ['192.0.2.256:4443'] }],
    ['port zero', { sockets: ['192.0.2.7:0'] }],
    ['a port above 65535', { sockets: ['192.0.2.7:65536'] }],
    ['half an IPv6 address', { sockets: ['[2001:db8]:4443'] }],
    ['a line break after the address', { sockets: ['192.0.2.7:4443\n'] }],
    ['a short fingerprint', { fingerprint: 'AAAA' }],
    ['a fingerprint that is none', { fingerprint: 'not base64url!' }],
  ];
  it.each(hostile)('is not written for %s', (_, change) => {
    expect(() => answerSdp({ ...ADDRESS, ...change }, OFFER)).toThrow(SdpError);
  });

  it('finds no fingerprint where there is none', () => {
    expect(() => fingerprintOf('a=fingerprint:sha-1 00:11\r\n')).toThrow(SdpError);
  });
});
