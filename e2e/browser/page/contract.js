// A swarm that publishes the fixture in real time out of memory, and counts what hls.js does with it. The player under
// test is the SDK's own: its loader, its ABR controller, its hls.js.

/* global Millstream */
const decode = (text) => Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
const TARGET_S = 4;
const PART_TARGET_S = 0.27;

class MemorySwarm {
  // Twenty seconds of stream exist when the page opens.
  startedAt = performance.now() - 20_000;
  // What was said of a part once stays, whatever the publisher does later.
  epoch = performance.timeOrigin + this.startedAt;
  bitsPerSecond = 10_000_000;
  bandwidth = { bitsPerSecond: () => this.bitsPerSecond, firstByteMs: () => 20 };
  requests = {};
  blocked = 0;
  loads = [];
  playedBytes = 0;
  wrong = 0;
  frozenAt = Infinity;

  constructor(renditions) {
    this.renditions = new Map(renditions.map((rendition) => {
      let end = 0;
      const parts = rendition.parts.map(({ bytes, duration }) => ({ bytes: decode(bytes), duration, end: (end += duration) }));
      return [rendition.name, { ...rendition, init: decode(rendition.init), parts }];
    }));
  }

  now() {
    return (Math.min(performance.now(), this.frozenAt) - this.startedAt) / 1_000;
  }

  published({ parts }) {
    const later = parts.findIndex(({ end }) => end > this.now());
    return later === -1 ? parts.length : later;
  }

  async load(request, { signal }) {
    this.requests[request.kind] = (this.requests[request.kind] ?? 0) + 1;
    const [, file] = /\/s\/demo\/([^?]+)/.exec(request.url);
    if (request.kind === 'multivariant') return { data: this.multivariant() };
    const [, name, rest] = /^([a-z]+)(?:\.m3u8|\/(.+))$/.exec(file);
    const rendition = this.renditions.get(name);
    if (request.kind === 'playlist') {
      await this.wait(rendition, request, signal);
      return { data: this.playlist(rendition) };
    }
    const bytes = this.media(rendition, rest);
    this.loads.push({ name, rest, at: performance.now() });
    return { data: bytes };
  }

  media(rendition, rest) {
    if (rest === 'init.mp4') return rendition.init;
    const number = Number(/\d+/.exec(rest)[0]);
    if (rest.startsWith('p')) return rendition.parts[number].bytes;
    const { partsPerSegment: n } = rendition;
    const parts = rendition.parts.slice(number * n, number * n + n).map(({ bytes }) => bytes);
    return new Uint8Array(parts.reduce((all, part) => [...all, ...part], []));
  }

  played(request, bytes) {
    if (request.kind !== 'part') return;
    const [, name, number] = /\/s\/demo\/([a-z]+)\/p(\d+)/.exec(request.url);
    const signed = this.renditions.get(name).parts[number].bytes;
    if (signed.length !== bytes.length || !signed.every((byte, at) => byte === bytes[at])) this.wrong++;
    this.playedBytes += bytes.length;
  }

  async wait(rendition, { blocking, answerBy }, signal) {
    if (blocking === undefined) return;
    const { partsPerSegment: n } = rendition;
    const wanted = blocking.part === undefined ? (blocking.msn + 1) * n : blocking.msn * n + blocking.part + 1;
    this.blocked++;
    while (this.published(rendition) < wanted && performance.now() < answerBy && !signal.aborted) {
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
  }

  multivariant() {
    const video = [...this.renditions.values()].filter(({ kind }) => kind === 'video');
    return ['#EXTM3U', '#EXT-X-VERSION:9',
      '#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="a",NAME="a",DEFAULT=YES,AUTOSELECT=YES,URI="audio.m3u8"',
      ...video.flatMap(({ name, codecs, bandwidth }) => [
        `#EXT-X-STREAM-INF:BANDWIDTH=${bandwidth},CODECS="${codecs},mp4a.40.2",AUDIO="a"`, `${name}.m3u8`]), ''].join('\n');
  }

  playlist(rendition) {
    const { name, parts, partsPerSegment: n } = rendition;
    const published = this.published(rendition);
    const lastSegment = Math.floor(published / n);
    const firstSegment = Math.max(0, lastSegment - 10);
    const lines = ['#EXTM3U', '#EXT-X-VERSION:9', `#EXT-X-TARGETDURATION:${TARGET_S}`,
      `#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,PART-HOLD-BACK=${(PART_TARGET_S * 3).toFixed(2)}`,
      `#EXT-X-PART-INF:PART-TARGET=${PART_TARGET_S}`, `#EXT-X-MEDIA-SEQUENCE:${firstSegment}`,
      `#EXT-X-MAP:URI="${name}/init.mp4"`];
    const start = firstSegment === 0 ? 0 : parts[firstSegment * n - 1].end;
    lines.push(`#EXT-X-PROGRAM-DATE-TIME:${new Date(this.epoch + start * 1_000).toISOString()}`);
    for (let segment = firstSegment; segment <= lastSegment; segment++) {
      const own = parts.slice(segment * n, Math.min(segment * n + n, published));
      if (segment >= lastSegment - 3) {
        own.forEach(({ duration }, at) => lines.push(
          `#EXT-X-PART:DURATION=${duration.toFixed(6)},URI="${name}/p${segment * n + at}.m4s"${at === 0 ? ',INDEPENDENT=YES' : ''}`));
      }
      if (own.length === n) {
        lines.push(`#EXTINF:${own.reduce((sum, { duration }) => sum + duration, 0).toFixed(6)},`, `${name}/s${segment}.m4s`);
      }
    }
    lines.push(`#EXT-X-PRELOAD-HINT:TYPE=PART,URI="${name}/p${published}.m4s"`, '');
    return lines.join('\n');
  }
}

/** Plays; the page's tests look at `window.contract` from outside. */
async function begin() {
  const HlsClass = Millstream.Hls;
  const swarm = new MemorySwarm(await (await fetch('/fixture')).json());
  const video = document.getElementById('video');
  const contract = (window.contract = { swarm, errors: [], stalls: [], levels: [] });
  let last = { time: 0, at: performance.now() };
  const watch = () => {
    const now = performance.now();
    if (video.currentTime !== last.time) last = { time: video.currentTime, at: now };
    else if (video.currentTime > 0 && now - last.at > 200 && contract.stalls.at(-1) !== last.at) contract.stalls.push(last.at);
    requestAnimationFrame(watch);
  };
  watch();
  const hls = (contract.hls = new HlsClass({ ...Millstream.swarmConfig(HlsClass, swarm), debug: window.debug === true }));
  hls.on('hlsError', (_, { details, fatal, error }) => contract.errors.push(`${details}${fatal ? ' fatal' : ''}: ${error?.message}`));
  hls.on('hlsLevelSwitched', (_, { level }) => contract.levels.push(hls.levels[level].name || hls.levels[level].url[0]));
  hls.loadSource('/s/demo/index.m3u8');
  hls.attachMedia(video);
  await video.play();
}
window.begin = begin;
