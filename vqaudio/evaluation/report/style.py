"""How the report of an evaluation looks, beyond what it shares with the page of a run."""

STYLE = """
section > .panel:first-of-type { margin-top: 0; }
.mark { display: inline-block; width: 9px; height: 9px; background: var(--c); flex: none; }
.mark.circle { border-radius: 9px; } .mark.diamond { transform: rotate(45deg) scale(.9); }
.mark.triangle { clip-path: polygon(50% 0, 100% 100%, 0 100%); width: 11px; height: 10px; }
th > .mark, figcaption .mark, h3 > .mark, .systems .mark, .key .mark { margin-right: 7px; }
.key .mark { margin-right: 0; }
h3 { color: var(--ink); } h3 .unit { margin-left: 8px; }
.soft { color: var(--soft); font-size: 13px; margin: 14px 0 6px; }
.systems { position: sticky; top: 38px; z-index: 2; background: var(--bg); display: flex; flex-wrap: wrap; gap: 6px;
  padding: 6px 0 10px; }
button, select, input { font: inherit; color: inherit; }
.systems button, .panel > button, .controls select, .controls input { background: var(--card);
  border: 1px solid var(--line); border-radius: 99px; padding: 2px 12px; font-size: 13px; }
.systems button, .panel > button { cursor: pointer; }
.systems button[aria-pressed="false"] { opacity: .45; text-decoration: line-through; }
.rates { grid-template-columns: repeat(auto-fit, minmax(min(100%, 380px), 1fr)); }
.rates .plot { height: 230px; margin-bottom: 40px; } .rates .hint { margin-top: 0; }
.rates .off { display: none; }
.rates path.line { stroke-width: 2; stroke-linejoin: round; } .rates path.whisker { stroke-width: 1.6; }
.rates path.faint { stroke-width: 1; opacity: .45; }
.rates path.bound { stroke-width: 1.4; stroke-dasharray: 2 4; }
.axis-name { position: absolute; right: 0; top: 100%; margin-top: 21px; font-size: 11.5px; color: var(--soft); }
.spots .mark { position: absolute; margin: -4.5px 0 0 -4.5px; box-shadow: 0 0 0 1.5px var(--card); }
.spots .mark.triangle { margin: -6px 0 0 -5.5px; }
.spots .mark.on { scale: 1.6; }
.spots .bound { position: absolute; left: 4px; transform: translateY(-100%); font-size: 11.5px; line-height: 1.3;
  color: var(--c); background: color-mix(in srgb, var(--card) 75%, transparent); padding: 0 3px; border-radius: 4px; }
.spots .bound.far { transform: none; } .spots .bound.late { left: auto; right: 4px; }
.spots .mark { z-index: 1; }
.tip { white-space: pre-line; max-width: 320px; } .tip::first-line { font-weight: 650; }
.facts thead th { vertical-align: bottom; } .facts th[scope=row] { color: inherit; font-weight: 600; text-align: left; }
.facts th[scope=row] span { color: var(--soft); font-weight: 400; margin-left: 6px; }
.facts td span { color: var(--soft); }
.facts thead button { all: unset; cursor: pointer; color: inherit; font: inherit; }
.facts thead button:focus-visible { outline: 2px solid var(--train); outline-offset: 2px; border-radius: 2px; }
.facts th[aria-sort] { color: var(--ink); }
.facts th[aria-sort=ascending] button::after { content: " ▲"; font-size: 9px; }
.facts th[aria-sort=descending] button::after { content: " ▼"; font-size: 9px; }
.sortable th[scope=row], .sortable thead th:first-child { position: sticky; left: 0; background: var(--card);
  z-index: 1; }
.sortable .number { text-align: right; } .sortable td span { display: block; font-size: 12px; }
.sortable td, .sortable th { font-size: 13.5px; }
.facts .missing { color: var(--soft); font-size: 12px; } .facts .absent td { color: var(--soft); }
.facts tr:last-child th[scope=row] { border-bottom: 0; } .reasons td:first-child { width: 22%; }
.reasons td:last-child { width: 44%; }
.facts th .mark { vertical-align: 0; }
sup a { text-decoration: none; color: var(--soft); padding: 0 2px; }
.notes { color: var(--soft); font-size: 13px; margin: 10px 0 0; padding-left: 22px; }
.notes li:target { color: var(--ink); font-weight: 600; }
.model + .model { margin-top: 22px; }
.books { display: grid; grid-template-columns: minmax(0, 1fr) minmax(0, 400px); gap: 12px; align-items: start; }
.books .panel { margin: 0; } .use { width: 110px; height: 30px; display: block; background: var(--faint);
  border-radius: 3px; } .use path { opacity: .85; }
.use .even { stroke: var(--ink); opacity: .5; stroke-width: 1; stroke-dasharray: 3 3; vector-effect: non-scaling-stroke;
  fill: none; }
.use-chart .plot { height: 220px; }
.controls { display: flex; flex-wrap: wrap; gap: 8px 20px; align-items: center; margin-bottom: 10px; font-size: 13.5px;
  color: var(--soft); }
.controls select, .controls input { color: var(--ink); margin-left: 4px; max-width: 78vw; }
#files-table { font-size: 13.5px; } #files-table th, #files-table td { padding: 3px 14px 3px 0; }
#files-table .path { all: unset; cursor: pointer; overflow-wrap: anywhere; white-space: normal; }
#files-table .path:hover, #files-table .path:focus-visible { text-decoration: underline; }
#files-table td.file { white-space: normal; min-width: 190px; max-width: 420px; }
#files-table .more > td { background: var(--faint); padding: 6px 10px 10px; white-space: normal; }
.panel > button { margin-top: 10px; }
.clip { padding: 10px 18px 14px; } .clip summary .unit { font-size: 13.5px; margin-left: 10px; }
summary .unit { overflow-wrap: anywhere; }
.clip .sounds { margin-top: 10px; grid-template-columns: repeat(auto-fill, minmax(min(100%, 270px), 1fr)); }
.sound figcaption { display: block; } .sound figcaption > span { display: block; min-height: 1.5em; }
.sound:focus-visible, .chart:focus-visible { outline: 2px solid var(--train); }
.sound.playing { border-color: var(--train); }
.seen { position: relative; background: #000004; } .picture img { height: 120px; }
.picture > i { pointer-events: none; z-index: 1; }
.hz span { position: absolute; left: 4px; font: 10px/1 system-ui, sans-serif; color: #fff; opacity: .8;
  transform: translateY(50%); text-shadow: 0 0 3px #000, 0 0 2px #000; pointer-events: none; }
.pitch { position: relative; height: 54px; background: var(--card); }
.pitch svg { width: 100%; height: 100%; display: block; } .pitch path { fill: none; stroke-width: 1.8;
  vector-effect: non-scaling-stroke; stroke-linecap: round; stroke-linejoin: round; }
.pitch path.grid { stroke: var(--line); stroke-width: 1; } .pitch path.was { stroke: var(--soft); stroke-width: 3.5;
  opacity: .45; }
.pitch .hz span { color: var(--soft); transform: translateY(-50%); text-shadow: none; }
.scores { margin: 6px 0 0; font-size: 12.5px; color: var(--soft); font-variant-numeric: tabular-nums; }
.scores span { white-space: nowrap; margin-right: 9px; }
.scores:empty { display: none; } .scores b { color: var(--ink); font-weight: 600; }
.codes { margin: 0 0 12px; } .codes .grid { position: relative; margin-top: 4px; border-radius: 6px; overflow: hidden; }
.codes img { display: block; width: 100%; height: calc(var(--k) * 13px); image-rendering: pixelated; }
.codes figcaption span { color: var(--soft); font-size: 12.5px; }
details.panel summary { font-size: 15px; } .findings ul { margin: 0; padding-left: 18px; }
.findings code { overflow-wrap: anywhere; }
@media (max-width: 900px) { .books { grid-template-columns: minmax(0, 1fr); } }
@media (max-width: 600px) { .panel, .clip { padding: 10px 12px; } .systems { position: static; }
  .sortable th[scope=row] { max-width: 130px; white-space: normal; } .sortable th[scope=row] span { display: block;
  margin-left: 16px; } }
@media print { .systems { position: static; } details.clip > * { display: block; } }
"""
