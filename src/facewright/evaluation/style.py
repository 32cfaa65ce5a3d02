"""The stylesheet of the report, for light and dark screens and for print."""

STYLE = """\
:root {
  color-scheme: light dark;
  --ink: #1d2129; --soft: #5b6472; --rule: #d9dde3; --paper: #ffffff; --panel: #f6f7f9;
  --notice: #fff6dc; --notice-edge: #d79b00;
  --s0: #0b62a8; --s1: #c8500a; --s2: #14805e; --s3: #a8327e;
  --s4: #7a5c00; --s5: #5b4bb5; --s6: #237a8c; --s7: #8a3b3b;
  --genuine: #14805e; --impostor: #c8500a;
}
@media (prefers-color-scheme: dark) {
  :root {
    --ink: #e6e9ee; --soft: #9aa4b2; --rule: #343b46; --paper: #14171c; --panel: #1c2027;
    --notice: #2e2710; --notice-edge: #d9a520;
    --s0: #6cb2f2; --s1: #f59a5c; --s2: #5ccba6; --s3: #ea8cc6;
    --s4: #dcc05a; --s5: #a89cf0; --s6: #74c6d8; --s7: #e08f8f;
    --genuine: #5ccba6; --impostor: #f59a5c;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif;
}
main { max-width: 62rem; margin: 0 auto; padding: 2.5rem 1.5rem 4rem; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 1rem; letter-spacing: -0.01em; }
h2 { font-size: 1.2rem; margin: 2.75rem 0 0.75rem; }
p { margin: 0 0 0.9rem; max-width: 46rem; }
.notice {
  background: var(--notice); border-left: 4px solid var(--notice-edge); border-radius: 4px;
  padding: 0.8rem 1.1rem; max-width: 46rem;
}
.notice p { margin: 0; }
.fine { color: var(--soft); font-size: 0.875rem; margin-top: 0.9rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td {
  text-align: right; padding: 0.5rem 0.75rem; border-bottom: 1px solid var(--rule);
  vertical-align: top; white-space: nowrap;
}
th:first-child { text-align: left; padding-left: 0; }
thead th {
  color: var(--soft); font-weight: 500; font-size: 0.85rem; vertical-align: bottom;
  border-bottom-color: var(--soft);
}
tbody th { font-weight: 600; }
td small { display: block; color: var(--soft); font-size: 0.78rem; }
figure { margin: 0; }
figcaption { font-weight: 600; font-size: 0.9rem; margin: 0 0 0.25rem; }
.panels { display: grid; grid-template-columns: repeat(auto-fit, minmax(18rem, 1fr)); gap: 1.5rem; }
svg { width: 100%; height: auto; display: block; max-width: 46rem; }
svg text { fill: var(--soft); font-size: 11.5px; font-variant-numeric: tabular-nums; }
svg .title { fill: var(--ink); font-size: 12px; }
svg .aside { font-style: italic; }
svg .grid { stroke: var(--rule); stroke-width: 1; }
svg .hatch { stroke: var(--rule); stroke-width: 2.5; }
svg .line { fill: none; stroke-width: 2; stroke-linejoin: round; stroke: currentColor; }
svg .area { fill: currentColor; fill-opacity: 0.3; stroke: currentColor; stroke-width: 1.25; }
svg .threshold { stroke: var(--ink); stroke-width: 1.5; stroke-dasharray: 5 4; }
.s0 { color: var(--s0); } .s1 { color: var(--s1); }
.s2 { color: var(--s2); } .s3 { color: var(--s3); }
.s4 { color: var(--s4); } .s5 { color: var(--s5); }
.s6 { color: var(--s6); } .s7 { color: var(--s7); }
.genuine { color: var(--genuine); } .impostor { color: var(--impostor); }
.legend {
  list-style: none; display: flex; flex-wrap: wrap; gap: 0.35rem 1.4rem; padding: 0;
  margin: 0.6rem 0 0; font-size: 0.9rem;
}
.key {
  display: inline-block; width: 1.3rem; height: 0; border-top: 3px solid currentColor;
  vertical-align: 0.28em; margin-right: 0.45rem;
}
.key.threshold { border-top: 2px dashed var(--ink); }
dl { margin: 0; border-top: 1px solid var(--rule); }
dl div {
  display: grid; grid-template-columns: 15rem 1fr; gap: 1rem; padding: 0.4rem 0;
  border-bottom: 1px solid var(--rule);
}
dt { color: var(--soft); }
dd { margin: 0; overflow-wrap: anywhere; }
@media (max-width: 40rem) { dl div { grid-template-columns: 1fr; gap: 0; } }
@media print { main { max-width: none; padding: 0; } section { break-inside: avoid; } }
"""
