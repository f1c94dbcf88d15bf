// How the statistics look: dark, dense, readable on a phone. Colours are variables, so that a page can have its own.

export const STATS_STYLE = `
:host {
  --edge: var(--millstream-edge-color, #2dd4bf);
  --peer: var(--millstream-peer-color, #a78bfa);
  --origin: var(--millstream-origin-color, #fbbf24);
  --panel: var(--millstream-panel-color, rgb(11 15 20 / 0.82));
  --text: var(--millstream-text-color, #e6edf3);
  --dim: var(--millstream-dim-color, #8b98a5);
  display: block;
  box-sizing: border-box;
  width: min(19rem, 100%);
  color: var(--text);
  font: 12px/1.35 var(--millstream-font, system-ui, sans-serif);
  font-variant-numeric: tabular-nums;
}
:host([hidden]) { display: none; }
section {
  background: var(--panel);
  backdrop-filter: blur(10px);
  -webkit-backdrop-filter: blur(10px);
  border: 1px solid rgb(255 255 255 / 0.08);
  border-radius: 12px;
  padding: 10px 12px;
  display: grid;
  gap: 8px;
}
header { display: flex; justify-content: space-between; align-items: center; gap: 8px; }
.mode { display: inline-flex; align-items: center; gap: 6px; font-weight: 600; }
.mode::before { content: ''; width: 8px; height: 8px; border-radius: 50%; background: var(--dim); }
.mode.swarm::before { background: var(--edge); box-shadow: 0 0 8px var(--edge); }
.mode.plain::before { background: var(--origin); }
.offload { color: var(--edge); font-size: 13px; }
.bar { display: flex; height: 6px; border-radius: 3px; overflow: hidden; background: rgb(255 255 255 / 0.08); }
.bar i { flex: 0 1 0; transition: flex-grow 0.5s ease-out; }
.bar .edge, .legend .edge::before { background: var(--edge); }
.bar .peer, .legend .peer::before { background: var(--peer); }
.bar .origin, .legend .origin::before { background: var(--origin); }
ul, dl { list-style: none; margin: 0; padding: 0; }
dd { margin: 0; }
.legend { display: flex; justify-content: space-between; gap: 8px; }
.legend li { display: grid; grid-template-columns: auto 1fr; column-gap: 6px; align-items: center; }
.legend li::before { content: ''; width: 8px; height: 8px; border-radius: 2px; }
.legend span { color: var(--dim); }
.legend b { grid-column: 2; font-weight: 600; }
.chart { width: 100%; height: 44px; display: var(--millstream-chart-display, block); border-bottom: 1px solid rgb(255 255 255 / 0.12); }
.chart .edge { fill: var(--edge); fill-opacity: 0.75; }
.chart .peer { fill: var(--peer); fill-opacity: 0.75; }
.chart .origin { fill: var(--origin); fill-opacity: 0.85; }
.edges { display: grid; gap: 3px; }
.edges:empty { display: none; }
.edges li { display: grid; grid-template-columns: 8px 5.2em 1fr auto auto; gap: 8px; align-items: center; }
.edges .dot { width: 8px; height: 8px; border-radius: 50%; background: var(--dim); }
.edges .primary .dot { background: var(--edge); }
.edges .standby .dot { background: none; box-shadow: inset 0 0 0 2px var(--edge); }
.edges .connecting .dot { animation: pulse 1s ease-in-out infinite alternate; }
.edges .lost { opacity: 0.55; }
.edges .lost .dot { background: #f87171; }
.edges .id { font-family: ui-monospace, monospace; font-size: 11px; }
.edges .state, .edges .rtt { color: var(--dim); }
.edges .got { text-align: right; min-width: 5.2em; }
.figures { display: grid; grid-template-columns: repeat(3, 1fr); gap: 6px 10px; }
.figures div:nth-child(n + 4) { display: var(--millstream-more-display, block); }
.figures dt { color: var(--dim); font-size: 11px; }
.figures dd { font-weight: 600; white-space: nowrap; overflow: hidden; text-overflow: ellipsis; }
.figures .bad { color: #f87171; }
@keyframes pulse { from { opacity: 0.3; } to { opacity: 1; } }
@media (prefers-reduced-motion: reduce) {
  .bar i { transition: none; }
  .edges .connecting .dot { animation: none; }
}
`;
