"""How a run's page looks, and what it does when a pointer is over it: a style sheet and a script, both inline.

The script reads values off the curves that are already drawn, so that the page carries its numbers once; without it
everything is still there to be seen and heard.
"""

STYLE = """
:root { color-scheme: light dark; --bg: #f6f6f4; --card: #fff; --ink: #1b1d21; --soft: #666c75; --line: #e3e3df;
  --faint: #efefec; --train: #2d6cdf; --valid: #d2660a; --reference: #7d848e; --bad: #c4312a; --good: #1f8a4c;
  --stage: #8159c9; --shadow: 0 1px 2px rgb(0 0 0 / 6%); }
@media (prefers-color-scheme: dark) {
  :root { --bg: #111214; --card: #1a1c1f; --ink: #e7e8ea; --soft: #9aa1ab; --line: #2d3035; --faint: #24272b;
    --train: #6da0ff; --valid: #f4a24f; --reference: #959ca6; --bad: #ff7d73; --good: #5fcf8d; --stage: #b493f5;
    --shadow: none; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--bg); color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
main, header, footer { max-width: 1320px; margin: 0 auto; padding: 0 20px; }
header { padding-top: 28px; }
h1 { font-size: 26px; line-height: 1.2; margin: 0 10px 0 0; display: inline; letter-spacing: -.01em; }
h2 { font-size: 18px; margin: 0 0 2px; }
h3 { font-size: 14px; margin: 14px 0 6px; color: var(--soft); font-weight: 600; }
section { margin: 34px 0 0; scroll-margin-top: 50px; }
section > p { color: var(--soft); margin: 0 0 12px; max-width: 88ch; }
a { color: inherit; }
code { font: 13px ui-monospace, monospace; }
.pill { display: inline-block; border: 1px solid; border-radius: 99px; padding: 1px 10px; font-size: 13px;
  font-weight: 600; vertical-align: 4px; }
.pill.good { color: var(--good); } .pill.bad { color: var(--bad); } .pill.soft { color: var(--soft); }
.about { color: var(--soft); margin: 6px 0 16px; }
nav { position: sticky; top: 0; z-index: 3; background: var(--bg); border-bottom: 1px solid var(--line);
  margin-top: 18px; }
nav div { max-width: 1320px; margin: 0 auto; padding: 8px 20px; display: flex; gap: 18px; overflow-x: auto;
  white-space: nowrap; }
nav a { text-decoration: none; color: var(--soft); font-size: 14px; } nav a:hover { color: var(--ink); }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(140px, 1fr)); gap: 10px; }
.tile, .chart, .panel, .sound { background: var(--card); border: 1px solid var(--line); border-radius: 10px;
  box-shadow: var(--shadow); }
.tile { padding: 10px 14px; } .tile b { display: block; font-size: 21px; line-height: 1.25; font-weight: 650; }
.tile span { color: var(--soft); font-size: 13px; display: block; }
.panel { padding: 14px 18px; margin-top: 12px; }
.findings { border-left: 4px solid var(--bad); } .findings.none { border-left-color: var(--good); }
.findings ol { margin: 8px 0 0; padding: 0; list-style: none; } .findings li + li { margin-top: 12px; }
.findings p { margin: 2px 0 0; } .findings .remedy { color: var(--soft); }
.findings .at { color: var(--soft); font-size: 13px; margin-left: 6px; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 360px), 1fr)); gap: 12px; }
.chart { margin: 0; padding: 12px 14px 10px; outline-offset: 2px; min-width: 0; }
.chart.wide { grid-column: 1 / -1; } .chart.wide .plot { height: 280px; }
figcaption { display: flex; justify-content: space-between; align-items: center; min-height: 24px;
  gap: 4px 12px; flex-wrap: wrap; font-size: 14px; }
.unit { color: var(--soft); font-weight: 400; }
.legend { color: var(--soft); font-size: 12.5px; display: inline-flex; gap: 12px; align-items: center;
  white-space: nowrap; }
.legend > span:not(.chips) { display: inline-flex; gap: 5px; align-items: center; }
.legend i { width: 14px; height: 0; border-top: 2.5px solid var(--c); display: inline-block; }
.legend i.dots { height: 7px; width: 7px; border-radius: 9px; border: 0; background: var(--c); }
.legend i.reference { border-top: 2px dashed var(--c); }
.legend .chips { display: inline-flex; } .legend .chips i { border: 0; width: 9px; height: 9px; }
.chips i:first-child { border-radius: 3px 0 0 3px; } .chips i:last-child { border-radius: 0 3px 3px 0; }
.hint { display: block; color: var(--soft); font-size: 12.5px; margin-top: 24px; line-height: 1.35; }
.plot { position: relative; height: 190px; margin: 16px 6px 22px 46px; }
.plot svg { position: absolute; inset: 0; width: 100%; height: 100%; overflow: visible; }
.plot path { fill: none; vector-effect: non-scaling-stroke; stroke-linejoin: round; stroke-linecap: round; }
path.grid { stroke: var(--line); stroke-width: 1; } path.line { stroke-width: 1.8; }
path.faint { stroke-width: 1; opacity: .3; } path.dots { stroke-width: 6; }
.rows span, .columns span { position: absolute; font-size: 11.5px; color: var(--soft);
  font-variant-numeric: tabular-nums; }
.rows span { right: 100%; margin-right: 8px; transform: translateY(-50%); white-space: nowrap; }
.columns span { top: 100%; margin-top: 5px; transform: translateX(-50%); }
.columns span.edge { transform: translateX(-80%); }
.marks i { position: absolute; }
.marks .stage { top: 0; bottom: 0; border-left: 1.5px dashed var(--stage); }
.marks .stage span { position: absolute; left: -1px; top: -15px; font: 11px system-ui, sans-serif; color: var(--stage);
  white-space: nowrap; }
.marks .stage.late span { left: auto; right: 0; }
.marks .resume { top: 0; bottom: 0; border-left: 1.5px dotted var(--reference); opacity: .7; }
.marks .finding { bottom: -1px; width: 0; height: 0; margin-left: -5px; border: 5px solid transparent;
  border-bottom: 9px solid var(--bad); border-top: 0; }
.marks .skipped { bottom: 0; height: 7px; border-left: 2px solid var(--bad); opacity: .75; }
.key { color: var(--soft); font-size: 13px; display: flex; gap: 6px 20px; flex-wrap: wrap; margin: 14px 0 0; }
.key > span { display: inline-flex; align-items: center; gap: 6px; }
.key .marks { position: relative; width: 12px; height: 14px; display: inline-block; } .key .marks i { left: 6px; }
.cross { position: absolute; top: 0; bottom: 0; border-left: 1px solid var(--ink); opacity: .45; display: none;
  pointer-events: none; }
.tip { position: absolute; z-index: 5; pointer-events: none; display: none; background: var(--card); color: var(--ink);
  border: 1px solid var(--line); border-radius: 8px; padding: 6px 10px; font-size: 12.5px; line-height: 1.45;
  box-shadow: 0 4px 16px rgb(0 0 0 / 22%); white-space: nowrap; font-variant-numeric: tabular-nums; }
.tip i { display: inline-block; width: 9px; height: 9px; border-radius: 3px; margin-right: 6px; }
.tip table { border-spacing: 0; } .tip td { padding: 0; } .tip td + td { text-align: right; padding-left: 14px; }
.scroll { overflow-x: auto; }
table.facts { border-collapse: collapse; font-size: 14px; width: 100%; font-variant-numeric: tabular-nums; }
.facts th { text-align: left; color: var(--soft); font-weight: 600; font-size: 13px; }
.facts th, .facts td { padding: 5px 14px 5px 0; border-bottom: 1px solid var(--faint); vertical-align: middle;
  white-space: nowrap; }
.facts td.text { white-space: normal; overflow-wrap: anywhere; }
.facts .number { text-align: right; }
.facts tr:last-child td { border-bottom: 0; }
.bar { display: inline-block; width: 90px; height: 8px; border-radius: 4px; background: var(--faint); margin-right: 8px;
  overflow: hidden; vertical-align: 1px; } .bar i { display: block; height: 100%; }
.swatch { display: inline-block; width: 10px; height: 10px; border-radius: 3px; margin-right: 7px; }
.sounds { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 250px), 1fr)); gap: 12px; }
.sound { margin: 0; padding: 10px 12px; } .sound figcaption span { color: var(--soft); font-size: 12.5px; }
.picture { position: relative; margin: 6px 0; cursor: pointer; border-radius: 6px; overflow: hidden; line-height: 0; }
.picture img { width: 100%; height: 96px; display: block; }
.picture i { position: absolute; top: 0; bottom: 0; left: 0; border-left: 2px solid #fff; opacity: 0; }
.sound.playing .picture i { opacity: .9; }
audio { width: 100%; height: 34px; display: block; }
.left-out { color: var(--soft); font-size: 13.5px; margin: 12px 0 0; }
summary { cursor: pointer; font-size: 18px; font-weight: 700; }
footer { color: var(--soft); font-size: 13px; padding: 40px 20px 30px; }
@media (max-width: 600px) { main, header, footer, nav div { padding-left: 12px; padding-right: 12px; }
  .tiles { grid-template-columns: 1fr 1fr; } .tile b { font-size: 18px; } .chart.wide .plot { height: 220px; } }
@media print { nav { display: none; } .chart, .tile, .sound { break-inside: avoid; } }
"""

SCRIPT = """
(() => {
  const charts = [...document.querySelectorAll('.chart')];
  const tip = document.createElement('div');
  tip.className = 'tip';
  document.body.append(tip);

  const number = (value) => {
    if (!isFinite(value)) return '–';
    const size = Math.abs(value);
    if (size >= 1e5 || (size < 1e-3 && size > 0)) return value.toExponential(2);
    return size >= 1000 ? Math.round(value).toLocaleString('en') : String(Number(value.toPrecision(4)));
  };
  // What is drawn, back as values: [step, value] of each line, read when it is first wanted.
  const read = (chart) => {
    if (chart.lines) return chart.lines;
    const { low, high, log, last } = chart.dataset;
    chart.lines = [...chart.querySelectorAll('path.line')].map((path) => ({
      name: path.dataset.name, colour: getComputedStyle(path).stroke,
      points: [...path.getAttribute('d').matchAll(/[ML]([-\\d.]+) ([-\\d.]+)/g)].map(([, x, y]) => {
        const value = +low + (1 - y / 1000) * (high - low);
        return [x / 1000 * last, log === '1' ? 10 ** value : value];
      }),
    }));
    return chart.lines;
  };
  const nearest = (points, step) => points.reduce(
    (best, point) => (Math.abs(point[0] - step) < Math.abs(best[0] - step) ? point : best), points[0]);

  const show = (chart, step, x, y) => {
    const last = +chart.dataset.last;
    const lines = read(chart).filter((line) => line.points.length);
    // the reading is taken where the nearest line has a value
    let place = lines.map((line) => nearest(line.points, step)[0])
      .reduce((best, at) => (Math.abs(at - step) < Math.abs(best - step) ? at : best), Infinity);
    if (!isFinite(place)) place = step;
    const rows = lines.map((line) => [line, nearest(line.points, place)]).filter(
      ([line, [at]]) => Math.abs(at - place) <= Math.max(last / 40, 1) || line.points.length < 60);
    tip.innerHTML = '';
    const head = document.createElement('div');
    head.textContent = 'step ' + Math.round(place).toLocaleString('en');
    const table = document.createElement('table');
    for (const [line, [at, value]] of rows) {
      const row = table.insertRow(), name = row.insertCell(), swatch = document.createElement('i');
      swatch.style.background = line.colour;
      const far = Math.abs(at - place) > last / 200 + 0.5;
      name.append(swatch, line.name + (far ? ' (step ' + Math.round(at).toLocaleString('en') + ')' : ''));
      row.insertCell().textContent = number(value);
    }
    tip.append(head, table);
    tip.style.display = 'block';
    const left = x + 16 + tip.offsetWidth > innerWidth ? x - tip.offsetWidth - 16 : x + 16;
    tip.style.left = Math.max(4, left) + scrollX + 'px';
    tip.style.top = Math.max(4, Math.min(y + 14, innerHeight - tip.offsetHeight - 8)) + scrollY + 'px';
    for (const other of charts) {
      const cross = other.querySelector('.cross');
      cross.style.display = 'block';
      cross.style.left = Math.min(100, 100 * place / last) + '%';
    }
    chart.step = place;
  };
  const hide = () => {
    tip.style.display = 'none';
    for (const chart of charts) chart.querySelector('.cross').style.display = 'none';
  };
  for (const chart of charts) {
    const plot = chart.querySelector('.plot');
    plot.addEventListener('pointermove', (event) => {
      const box = plot.getBoundingClientRect();
      const share = Math.min(1, Math.max(0, (event.clientX - box.left) / box.width));
      show(chart, share * chart.dataset.last, event.clientX, event.clientY);
    });
    plot.addEventListener('pointerleave', hide);
    chart.addEventListener('blur', hide);
    chart.addEventListener('keydown', (event) => {
      const way = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (!way) return;
      event.preventDefault();
      const last = +chart.dataset.last, box = plot.getBoundingClientRect();
      const all = read(chart).flatMap((line) => line.points.map((point) => point[0]));
      const steps = [...new Set(all)].sort((a, b) => a - b);
      const now = chart.step ?? (way > 0 ? -1 : last + 1);
      const next = way > 0 ? steps.find((s) => s > now + 1e-6) : steps.findLast((s) => s < now - 1e-6);
      if (next !== undefined) show(chart, next, box.left + box.width * next / last, box.top + box.height / 3);
    });
  }

  const sounds = [...document.querySelectorAll('.sound')];
  for (const sound of sounds) {
    const audio = sound.querySelector('audio'), picture = sound.querySelector('.picture');
    const head = picture.querySelector('i');
    const move = () => {
      head.style.left = 100 * audio.currentTime / (audio.duration || 1) + '%';
      if (!audio.paused) requestAnimationFrame(move);
    };
    audio.addEventListener('play', () => {
      for (const other of sounds) if (other !== sound) other.querySelector('audio').pause();
      sound.classList.add('playing');
      move();
    });
    audio.addEventListener('ended', () => sound.classList.remove('playing'));
    audio.addEventListener('seeked', move);
    picture.addEventListener('click', (event) => {
      audio.currentTime = event.offsetX / picture.clientWidth * (audio.duration || 0);
      audio.play();
    });
  }
})();
"""
