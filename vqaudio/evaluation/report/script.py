"""What the report of an evaluation does when it is touched: charts, tables, players. Without it all but the table of
files is still there to be read and heard."""

SCRIPT = r"""
(() => {
  'use strict';
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const tip = document.createElement('div');
  tip.className = 'tip';
  tip.setAttribute('role', 'status');
  document.body.append(tip);
  const showTip = (text, x, y) => {
    tip.textContent = text;
    tip.style.display = 'block';
    const left = x + 16 + tip.offsetWidth > innerWidth ? x - tip.offsetWidth - 16 : x + 16;
    tip.style.left = Math.max(4, left) + scrollX + 'px';
    tip.style.top = Math.max(4, Math.min(y + 14, innerHeight - tip.offsetHeight - 8)) + scrollY + 'px';
  };
  const hideTip = () => { tip.style.display = 'none'; };

  // ---- charts: the nearest spot under the pointer; with the arrow keys, from spot to spot
  for (const chart of all('.rates .chart')) {
    const plot = chart.querySelector('.plot');
    const left = (spot) => parseFloat(spot.style.left || 0);
    const spots = all('[data-tip]', chart).sort((a, b) => left(a) - left(b));
    let now = null;
    const mark = (spot, x, y) => {
      if (now) now.classList.remove('on');
      now = spot;
      if (!spot) return hideTip();
      spot.classList.add('on');
      showTip(spot.dataset.tip, x, y);
    };
    const middle = (spot) => {
      const box = spot.getBoundingClientRect();
      return [box.left + box.width / 2, box.top + box.height / 2];
    };
    plot.addEventListener('pointermove', (event) => {
      let best = null, least = 60;  // pixels
      for (const spot of spots) {
        if (spot.classList.contains('off')) continue;
        const [x, y] = middle(spot), bound = spot.classList.contains('bound');
        const far = bound ? 12 + Math.abs(y - event.clientY) : Math.hypot(x - event.clientX, y - event.clientY);
        if (far < least) [best, least] = [spot, far];
      }
      mark(best, event.clientX, event.clientY);
    });
    plot.addEventListener('pointerleave', () => mark(null));
    chart.addEventListener('blur', () => mark(null));
    chart.addEventListener('keydown', (event) => {
      const way = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (!way) return;
      event.preventDefault();
      const shown = spots.filter((spot) => !spot.classList.contains('off'));
      if (!shown.length) return;
      const place = shown.indexOf(now) + way;
      const spot = shown[(place + shown.length) % shown.length];
      mark(spot, ...middle(spot));
    });
  }
  for (const button of all('.systems button')) {
    button.addEventListener('click', () => {
      const off = button.getAttribute('aria-pressed') === 'true';
      button.setAttribute('aria-pressed', String(!off));
      for (const part of all(`.rates [data-s="${button.dataset.s}"]`)) part.classList.toggle('off', off);
    });
  }

  // ---- tables: what is missing comes last, whichever way they are sorted
  const compare = (a, b, way) => {
    if (a === null || a === undefined) return b === null || b === undefined ? 0 : 1;
    if (b === null || b === undefined) return -1;
    return way * (typeof a === 'number' ? a - b : a.localeCompare(b, undefined, { numeric: true }));
  };
  const mark = (heads, head, way) => {
    for (const other of heads) other.removeAttribute('aria-sort');
    head.setAttribute('aria-sort', way > 0 ? 'ascending' : 'descending');
  };
  for (const table of all('table.sortable')) {
    const heads = all('thead th', table), body = table.tBodies[0];
    const original = [...body.rows];
    heads.forEach((head, column) => {
      head.querySelector('button').addEventListener('click', () => {
        const numeric = head.classList.contains('number');
        const first = numeric ? -1 : 1;
        const sorted = head.getAttribute('aria-sort');
        const way = sorted ? (sorted === 'ascending' ? -1 : 1) : first;
        const key = (row) => {
          const cell = row.cells[column];
          if (!cell || (numeric && cell.dataset.v === undefined)) return null;
          return numeric ? Number(cell.dataset.v) : cell.textContent;
        };
        const rows = original.map((row) => [row, row.classList.contains('absent') && column ? null : key(row)]);
        rows.sort((a, b) => compare(a[1], b[1], way));
        body.append(...rows.map(([row]) => row));
        mark(heads, head, way);
      });
    });
  }

  // ---- the table of files
  const source = document.getElementById('files-data');
  if (source) {
    const data = JSON.parse(source.textContent);
    const table = document.getElementById('files-table'), said = document.getElementById('files-said');
    const choice = document.getElementById('files-point'), filter = document.getElementById('files-filter');
    const more = document.getElementById('files-more');
    const FEW = 60;
    const state = { column: 'path', way: 1, all: false, open: null };
    const element = (tag, text, kind) => {
      const made = document.createElement(tag);
      if (text !== undefined) made.textContent = text;
      if (kind) made.className = kind;
      return made;
    };
    const number = (value, decimals) => value.toLocaleString('en', {
      minimumFractionDigits: decimals, maximumFractionDigits: decimals }).replace('-', '\u2212');
    const facts = [['path', 'file', 0], ['speaker', 'speaker', 1], ['kind', 'kind', 2], ['seconds', 'seconds', 3]]
      .filter(([name, , place]) => {
        const there = new Set(data.files.map((file) => file[place]).filter((value) => value !== '' && value !== null));
        return name === 'path' || there.size > (name === 'kind' ? 1 : 0);
      });
    const columns = [
      ...facts.map(([name, label, place]) => ({
        name, label, numeric: place === 3, first: 1, read: (row) => data.files[row[0]][place], decimals: 1 })),
      { name: 'kbps', label: 'kbit/s', numeric: true, first: -1, read: (row) => row[1], decimals: 2 },
      ...data.columns.map(([name, label, higher, decimals, unit, why], place) => ({
        name, label, unit, why, decimals, place, numeric: true, first: higher ? 1 : -1,
        read: (row) => row[2][place] })),
    ];
    const heads = columns.map((column) => {
      const head = element('th', undefined, column.numeric ? 'number' : ''), button = element('button', column.label);
      button.type = 'button';
      head.scope = 'col';
      if (column.unit) button.append(' ', element('span', column.unit, 'unit'));
      head.append(button);
      button.addEventListener('click', () => {
        state.way = state.column === column.name ? -state.way : column.first;
        state.column = column.name;
        draw();
      });
      return head;
    });
    const headRow = element('tr');
    headRow.append(...heads);
    table.tHead.append(headRow);

    const cell = (column, row) => {
      const value = column.read(row), made = element('td', undefined, column.numeric ? 'number' : '');
      if (value !== null && value !== '') {
        made.textContent = column.numeric ? number(value, column.decimals) : value;
      } else if (column.place !== undefined) {
        const why = row[3][column.place];
        made.className = 'number missing';
        made.textContent = 'not measured';
        made.title = why !== undefined ? data.reasons[why] : column.why || 'no value and no reason were recorded';
      } else made.textContent = '–';
      return made;
    };
    const everyPoint = (file) => {  // one file at all points
      const made = element('table', undefined, 'facts'), head = made.createTHead().insertRow();
      head.append(element('th', 'system and point'));
      const shown = columns.filter((column) => column.name === 'kbps' || column.place !== undefined);
      for (const column of shown) head.append(element('th', column.label, 'number'));
      const body = made.createTBody();
      data.points.forEach(([, label, system], point) => {
        const row = data.rows[point].find((found) => found[0] === file);
        if (!row) return;
        const line = body.insertRow(), name = element('th'), swatch = element('i', undefined, 'swatch');
        swatch.style.background = `var(--s${system})`;
        name.scope = 'row';
        name.append(swatch, label);
        line.append(name, ...shown.map((column) => cell(column, row)));
        if (row[4]) line.insertCell().textContent = row[4].join('; ');
      });
      return made;
    };
    const line = (row) => {
      const made = element('tr');
      for (const column of columns) {
        if (column.name !== 'path') { made.append(cell(column, row)); continue; }
        const place = element('td', undefined, 'file'), button = element('button', data.files[row[0]][0], 'path');
        const open = state.open === row[0];
        button.type = 'button';
        button.setAttribute('aria-expanded', String(open));
        button.addEventListener('click', () => {
          state.open = state.open === row[0] ? null : row[0];
          draw();
          const again = all('.path', table).find((other) => other.textContent === data.files[row[0]][0]);
          if (again) again.focus();
        });
        place.append(button);
        if (row[4]) place.append(element('sup', '!'));
        if (row[4]) place.title = row[4].join('; ');
        made.append(place);
      }
      if (state.open !== row[0]) return [made];
      const below = element('tr', undefined, 'more'), wide = element('td');
      wide.colSpan = columns.length;
      wide.append(everyPoint(row[0]));
      below.append(wide);
      return [made, below];
    };
    const draw = () => {
      const words = filter.value.trim().toLocaleLowerCase();
      const column = columns.find((other) => other.name === state.column);
      const rows = data.rows[choice.value].filter((row) =>
        data.files[row[0]].slice(0, 3).some((text) => text.toLocaleLowerCase().includes(words)));
      rows.sort((a, b) => compare(column.read(a), column.read(b), state.way) || a[0] - b[0]);
      const shown = state.all ? rows : rows.slice(0, FEW);
      table.tBodies[0].replaceChildren(...shown.flatMap(line));
      mark(heads, heads[columns.indexOf(column)], state.way);
      more.hidden = shown.length === rows.length;
      more.textContent = `show all ${rows.length.toLocaleString('en')}`;
      let text = `${rows.length.toLocaleString('en')} of ${data.rows[choice.value].length.toLocaleString('en')} files`;
      const values = column.place === undefined ? [] : rows.map(column.read).filter((value) => value !== null);
      if (values.length) {
        const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
        text += `; mean ${column.label} ${number(mean, column.decimals)}`;
      }
      said.textContent = text;
    };
    choice.addEventListener('change', draw);
    filter.addEventListener('input', draw);
    more.addEventListener('click', () => { state.all = true; draw(); });
    const measured = columns.find((column) => column.place !== undefined);
    if (measured) { state.column = measured.name; state.way = measured.first; }
    draw();
  }

  // ---- players: one at a time; another version of a clip takes over where the last one is
  const sounds = all('.sound');
  for (const sound of sounds) {
    const audio = sound.querySelector('audio'), picture = sound.querySelector('.picture');
    const cursor = picture.querySelector(':scope > i');
    const family = all('.sound', sound.closest('.clip'));
    const move = () => {
      cursor.style.left = 100 * audio.currentTime / (audio.duration || 1) + '%';
      if (!audio.paused) requestAnimationFrame(move);
    };
    audio.addEventListener('play', () => {
      for (const other of sounds) {
        const player = other.querySelector('audio');
        if (other === sound || player.paused) continue;
        player.pause();
        if (family.includes(other) && !sound.placed) audio.currentTime = player.currentTime;
      }
      sound.placed = false;
      for (const other of sounds) other.classList.toggle('playing', other === sound);
      move();
    });
    audio.addEventListener('ended', () => sound.classList.remove('playing'));
    audio.addEventListener('seeked', move);
    picture.addEventListener('click', (event) => {
      const box = picture.getBoundingClientRect();
      sound.placed = true;
      audio.currentTime = (event.clientX - box.left) / box.width * (audio.duration || 0);
      audio.play();
    });
    sound.addEventListener('keydown', (event) => {
      if (event.target !== sound) return;
      const way = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (way) {
        const next = family[family.indexOf(sound) + way];
        if (!next) return;
        event.preventDefault();
        next.focus();
        if (!audio.paused) next.querySelector('audio').play();
      } else if (event.key === ' ' || event.key === 'Enter') {
        event.preventDefault();
        if (audio.paused) audio.play(); else audio.pause();
      }
    });
  }

  // ---- codes: their values under the pointer
  for (const figure of all('.codes')) {
    const grid = figure.querySelector('.grid'), K = +figure.dataset.k, N = +figure.dataset.n;
    let codes = null;
    const read = () => {
      const text = atob(figure.dataset.codes.split('base64,')[1]);
      const bytes = Uint8Array.from(text, (letter) => letter.charCodeAt(0)).buffer;
      return bytes.byteLength === 4 * K * N ? new Uint32Array(bytes) : new Uint16Array(bytes);
    };
    grid.addEventListener('pointermove', (event) => {
      codes = codes || read();
      const box = grid.getBoundingClientRect();
      const n = Math.min(N - 1, Math.max(0, Math.floor((event.clientX - box.left) / box.width * N)));
      const k = Math.min(K - 1, Math.max(0, Math.floor((event.clientY - box.top) / box.height * K)));
      const time = (n / figure.dataset.rate).toFixed(2);
      showTip(`codebook ${k + 1}: ${codes[k * N + n].toLocaleString('en')}\nframe ${n}, ${time} s`,
        event.clientX, event.clientY);
    });
    grid.addEventListener('pointerleave', hideTip);
  }
})();
"""
