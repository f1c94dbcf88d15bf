// `<millstream-stats>`: what comes from where, drawn live. Give it `PlayerStats` about once a second.
//
// It shows and knows nothing else: no timer, no player, so that a page can put it anywhere.

import { type BytesBySource, type EdgeStats, offload, type PlayerStats } from '../stats';
import { STATS_STYLE } from './stats-style';
import { bytesText, durationText, moneyText, rateText } from './text';

/** Samples in the chart: a minute at one a second. */
const SAMPLES_MAX = 60;

/** A session has two edges, at most the tracker's whole set; more would push the chart off a phone. */
const EDGES_SHOWN_MAX = 6;

const CHART_WIDTH = 240;
const CHART_HEIGHT = 44;

const SOURCES = ['edge', 'peer', 'origin'] as const;
const SOURCE_TEXT = { edge: 'Edges', peer: 'Peers', origin: 'Origin' } as const;
const STATE_TEXT = { connecting: 'connecting', primary: 'primary', standby: 'stands by', lost: 'lost' } as const;

const TEMPLATE = `
<style>${STATS_STYLE}</style>
<section part="panel" aria-label="Stream statistics">
  <header>
    <span class="mode" part="mode"></span>
    <b class="offload" part="offload"></b>
  </header>
  <div class="bar" part="bar" role="img">${SOURCES.map((source) => `<i class="${source}"></i>`).join('')}</div>
  <ul class="legend" part="legend">${SOURCES.map(
    (source) => `<li class="${source}"><span>${SOURCE_TEXT[source]}</span><b data-bytes="${source}"></b></li>`,
  ).join('')}</ul>
  <svg class="chart" part="chart" viewBox="0 0 ${CHART_WIDTH} ${CHART_HEIGHT}" preserveAspectRatio="none" aria-hidden="true">
    ${SOURCES.map((source) => `<path class="${source}"></path>`).join('')}
  </svg>
  <ul class="edges" part="edges"></ul>
  <dl class="figures" part="figures">
    <div><dt>Latency</dt><dd data-figure="latency"></dd></div>
    <div><dt>Buffer</dt><dd data-figure="buffer"></dd></div>
    <div><dt>Network</dt><dd data-figure="network"></dd></div>
    <div><dt>Stalls</dt><dd data-figure="stalls"></dd></div>
    <div><dt>Verified</dt><dd data-figure="verified"></dd></div>
    <div><dt>Paid</dt><dd data-figure="paid"></dd></div>
  </dl>
</section>`;

/** The overlay. */
export class MillstreamStats extends (globalThis.HTMLElement ?? class {}) {
  readonly #root = this.attachShadow({ mode: 'open' });
  readonly #samples: BytesBySource[] = [];
  #last: BytesBySource | undefined;

  constructor() {
    super();
    this.#root.innerHTML = TEMPLATE;
  }

  /** Shows the player as it is now. */
  show(stats: PlayerStats): void {
    this.#mode(stats);
    this.#sources(stats.bytes);
    this.#chart(stats.bytes);
    this.#find('.edges').replaceChildren(...stats.edges.slice(0, EDGES_SHOWN_MAX).map(edgeRow));
    this.#figure('latency', durationText(stats.latencyMs));
    this.#figure('buffer', durationText(stats.bufferMs));
    this.#figure('network', rateText(stats.bitsPerSecond));
    this.#figure('stalls', stats.stalls.count === 0 ? 'none' : `${stats.stalls.count} · ${durationText(stats.stalls.ms)}`);
    const { verified, rejected } = stats.pieces;
    this.#figure('verified', rejected === 0 ? verified.toLocaleString('en') : `${verified.toLocaleString('en')} · ${rejected} bad`);
    this.#find('[data-figure=verified]').classList.toggle('bad', rejected > 0);
    this.#figure('paid', moneyText(stats.edges.reduce((sum, edge) => sum + edge.paidMicros, 0)));
  }

  #mode(stats: PlayerStats): void {
    const mode = this.#find('.mode');
    mode.className = `mode ${stats.mode}`;
    const rendition = stats.rendition === undefined ? '' : ` · ${stats.rendition}`;
    mode.textContent = (stats.mode === 'swarm' ? 'Edges' : 'Plain HLS') + rendition;
    const share = offload(stats.bytes);
    this.#find('.offload').textContent = share === undefined ? '' : `${Math.floor(share * 100)} % offload`;
  }

  #sources(bytes: BytesBySource): void {
    for (const source of SOURCES) {
      this.#find(`.bar .${source}`).style.flexGrow = String(bytes[source]);
      this.#find(`[data-bytes=${source}]`).textContent = bytesText(bytes[source]);
    }
    const said = SOURCES.map((source) => `${SOURCE_TEXT[source]} ${bytesText(bytes[source])}`).join(', ');
    this.#find('.bar').setAttribute('aria-label', said);
  }

  /** Bytes since the last sample, stacked: the origin at the bottom, so that a growing foot is what one notices. */
  #chart(bytes: BytesBySource): void {
    const last = this.#last;
    this.#last = bytes;
    if (last === undefined) return;
    const since = (source: keyof BytesBySource) => Math.max(bytes[source] - last[source], 0);
    this.#samples.push({ edge: since('edge'), peer: since('peer'), origin: since('origin') });
    if (this.#samples.length > SAMPLES_MAX) this.#samples.shift();
    const peak = Math.max(1, ...this.#samples.map(({ edge, peer, origin }) => edge + peer + origin));
    const scale = (value: number) => (CHART_HEIGHT * value) / peak;
    const origin = this.#samples.map((sample) => scale(sample.origin));
    const peer = this.#samples.map((sample, at) => (origin[at] ?? 0) + scale(sample.peer));
    const edge = this.#samples.map((sample, at) => (peer[at] ?? 0) + scale(sample.edge));
    const floor = this.#samples.map(() => 0);
    this.#find('path.origin').setAttribute('d', area(floor, origin));
    this.#find('path.peer').setAttribute('d', area(origin, peer));
    this.#find('path.edge').setAttribute('d', area(peer, edge));
  }

  #figure(name: string, text: string): void {
    this.#find(`[data-figure=${name}]`).textContent = text;
  }

  #find(selector: string): HTMLElement {
    const found = this.#root.querySelector<HTMLElement>(selector);
    if (found === null) throw new Error(`the overlay has no ${selector}`);
    return found;
  }
}

function edgeRow(edge: EdgeStats): HTMLElement {
  const row = document.createElement('li');
  row.className = edge.state;
  const cell = (className: string, text: string) => {
    const span = document.createElement('span');
    span.className = className;
    span.textContent = text;
    row.append(span);
  };
  cell('dot', '');
  cell('id', edge.id.slice(0, 8));
  cell('state', STATE_TEXT[edge.state]);
  cell('rtt', durationText(edge.roundTripMs));
  cell('got', bytesText(edge.payableBytes));
  return row;
}

/** A closed path between two lines of heights, newest sample at the right. */
function area(low: readonly number[], high: readonly number[]): string {
  const x = (at: number) => CHART_WIDTH - ((low.length - 1 - at) * CHART_WIDTH) / (SAMPLES_MAX - 1);
  const point = (heights: readonly number[], at: number) =>
    `${x(at).toFixed(1)},${(CHART_HEIGHT - (heights[at] ?? 0)).toFixed(1)}`;
  const there = high.map((_, at) => point(high, at));
  const back = low.map((_, at) => point(low, low.length - 1 - at));
  return `M${[...there, ...back].join('L')}Z`;
}
