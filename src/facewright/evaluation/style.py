"""The stylesheet of the report, for light and dark screens, phones and print."""

_LIGHT = """\
    --ink: #1d2129; --soft: #5b6472; --rule: #dde1e7; --paper: #ffffff; --panel: #f5f6f8;
    --link: #0b62a8; --notice: #fff6dc; --notice-edge: #d79b00;
    --s0: #0b62a8; --s1: #c8500a; --s2: #14805e; --s3: #a8327e;
    --s4: #7a5c00; --s5: #5b4bb5; --s6: #237a8c; --s7: #8a3b3b;
    --genuine: #14805e; --impostor: #c8500a;
"""
_DARK = """\
    --ink: #e6e9ee; --soft: #9aa4b2; --rule: #323944; --paper: #14171c; --panel: #1c2027;
    --link: #6cb2f2; --notice: #2e2710; --notice-edge: #d9a520;
    --s0: #6cb2f2; --s1: #f59a5c; --s2: #5ccba6; --s3: #ea8cc6;
    --s4: #dcc05a; --s5: #a89cf0; --s6: #74c6d8; --s7: #e08f8f;
    --genuine: #5ccba6; --impostor: #f59a5c;
"""

STYLE = (
    f"""\
:root {{
  color-scheme: light dark;
{_LIGHT}}}
@media screen and (prefers-color-scheme: dark) {{
  :root {{
{_DARK}  }}
}}
"""
    + """\
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; text-size-adjust: 100%; }
body {
  margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif;
}
main { max-width: 64rem; margin: 0 auto; padding: 2.5rem 1.5rem 4rem; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 1rem; letter-spacing: -0.01em; }
h2 {
  font-size: 1.3rem; line-height: 1.3; margin: 3.25rem 0 0.9rem; padding-top: 0.9rem;
  border-top: 1px solid var(--rule); letter-spacing: -0.005em;
}
h3 { font-size: 1.02rem; margin: 1.8rem 0 0.6rem; overflow-wrap: anywhere; }
p, ul { margin: 0 0 0.9rem; max-width: 46rem; }
ul { padding-left: 1.2rem; }
li { margin: 0 0 0.45rem; }
li::marker { color: var(--soft); }
a { color: var(--link); }
nav { display: flex; flex-wrap: wrap; gap: 0.15rem 1.1rem; margin: 1.1rem 0 0; font-size: 0.9rem; }
nav a { text-decoration: none; padding: 0.1rem 0; }
nav a:hover { text-decoration: underline; }
.notice {
  background: var(--notice); border-left: 4px solid var(--notice-edge); border-radius: 4px;
  padding: 0.8rem 1.1rem; max-width: 46rem; margin: 0 0 0.9rem;
}
.notice p { margin: 0; }
.fine { color: var(--soft); font-size: 0.875rem; margin-top: 0.9rem; }
.fine + .fine { margin-top: -0.3rem; }
.wide { overflow-x: auto; margin: 0 0 0.9rem; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td {
  text-align: right; padding: 0.5rem 0.75rem; border-bottom: 1px solid var(--rule);
  vertical-align: top; white-space: nowrap;
}
th:first-child {
  text-align: left; padding-left: 0; position: sticky; left: 0; background: var(--paper);
}
td:last-child, th:last-child { padding-right: 0.1rem; }
tbody th { white-space: normal; overflow-wrap: anywhere; min-width: 7rem; max-width: 14rem; }
thead th {
  white-space: normal; vertical-align: bottom;
  color: var(--soft); font-weight: 500; font-size: 0.85rem; border-bottom-color: var(--soft);
}
tbody th { font-weight: 600; }
td small { display: block; color: var(--soft); font-size: 0.78rem; line-height: 1.35; }
td small.words { white-space: normal; }
figure { margin: 0; min-width: 0; }
figcaption { font-weight: 600; font-size: 0.9rem; margin: 0 0 0.25rem; overflow-wrap: anywhere; }
.panels {
  display: grid; gap: 1.5rem 2rem;
  grid-template-columns: repeat(auto-fit, minmax(min(22rem, 100%), 1fr));
}
.panels.small { grid-template-columns: repeat(auto-fit, minmax(min(17.5rem, 100%), 1fr)); }
svg { width: 100%; height: auto; display: block; max-width: 34rem; }
.patterns { position: absolute; width: 0; height: 0; }
svg text { fill: var(--soft); font-size: 12px; font-variant-numeric: tabular-nums; }
svg .title { fill: var(--ink); font-size: 12.5px; }
svg .aside { font-style: italic; }
svg .grid { stroke: var(--rule); stroke-width: 1; }
svg .shade { fill: var(--panel); }
svg .hatch { stroke: var(--rule); stroke-width: 2.5; }
svg .unsupported { fill: url(#hatch); }
svg .diagonal {
  stroke: var(--soft); stroke-width: 1.2; stroke-dasharray: 1.5 4; stroke-linecap: round;
}
svg .line { fill: none; stroke-width: 2; stroke-linejoin: round; stroke: currentColor; }
svg .band { fill: currentColor; fill-opacity: 0.13; stroke: none; }
svg .whisker { stroke: currentColor; stroke-width: 1.6; }
svg .overall { stroke: currentColor; stroke-width: 1.4; stroke-dasharray: 2 3; }
svg .dot { fill: currentColor; stroke: var(--paper); stroke-width: 1; }
svg .bound { fill: var(--paper); stroke: currentColor; stroke-width: 1.8; }
svg text.beyond { fill: currentColor; font-size: 14px; }
svg .area { fill: currentColor; fill-opacity: 0.3; stroke: currentColor; stroke-width: 1.25; }
svg .threshold { stroke: var(--ink); stroke-width: 1.5; }
svg .threshold.folds { stroke-dasharray: 5 4; }
svg .line.dashed { stroke-dasharray: 6 4; }
.s0 { color: var(--s0); } .s1 { color: var(--s1); }
.s2 { color: var(--s2); } .s3 { color: var(--s3); }
.s4 { color: var(--s4); } .s5 { color: var(--s5); }
.s6 { color: var(--s6); } .s7 { color: var(--s7); }
.genuine { color: var(--genuine); } .impostor { color: var(--impostor); }
.legend {
  list-style: none; display: flex; flex-wrap: wrap; gap: 0.35rem 1.4rem; padding: 0;
  margin: 0.6rem 0 0.9rem; font-size: 0.9rem; max-width: none;
}
.legend li { margin: 0; overflow-wrap: anywhere; }
.key {
  display: inline-block; width: 1.3rem; height: 0; border-top: 3px solid currentColor;
  vertical-align: 0.28em; margin-right: 0.45rem;
}
.key.dashed { border-top-style: dashed; }
.key.threshold { border-top: 2px solid var(--ink); }
.key.threshold.folds { border-top-style: dashed; }
.key.overall { border-top: 2px dotted var(--ink); }
.key.spot {
  width: 0.6rem; height: 0.6rem; border: 2px solid var(--ink); background: var(--ink);
  border-radius: 50%; vertical-align: -0.02em;
}
.key.spot.hollow { background: none; }
details { margin: 0 0 0.9rem; }
summary { cursor: pointer; color: var(--link); font-size: 0.9rem; }
.faces { display: flex; flex-wrap: wrap; gap: 0.9rem 0.75rem; margin: 0 0 0.9rem; }
.faces img { width: 5rem; height: auto; border-radius: 3px; margin-right: 3px; }
.faces figcaption {
  font-weight: 400; font-size: 0.8rem; color: var(--soft); font-variant-numeric: tabular-nums;
}
dl { margin: 0 0 0.9rem; border-top: 1px solid var(--rule); }
dl div {
  display: grid; grid-template-columns: 13rem 1fr; gap: 1rem; padding: 0.4rem 0;
  border-bottom: 1px solid var(--rule);
}
dt { color: var(--soft); }
dd { margin: 0; overflow-wrap: anywhere; }
@media (max-width: 40rem) {
  main { padding: 1.5rem 1rem 3rem; }
  h1 { font-size: 1.55rem; }
  th, td { padding: 0.45rem 0.55rem; }
  dl div { grid-template-columns: 1fr; gap: 0; }
}
@media print {
  @page { margin: 16mm; }
  body { font-size: 10.5pt; }
  main { max-width: none; padding: 0; }
  nav, summary { display: none; }
  details::details-content { content-visibility: visible; height: auto; }
  h2, h3 { break-after: avoid; }
  figure, tr, dl div, .legend { break-inside: avoid; }
  .wide { overflow: visible; }
  table { font-size: 8.5pt; }
  th, td { padding: 0.25rem 0.4rem; white-space: normal; }
}
"""
)
