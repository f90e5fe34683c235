"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const [main, tip] = ["main", "tip"].map((id) => document.getElementById(id));
  const WIDTH = 1200, ROW = 18, NARROWEST = 2, ROWS = 12, GRAIN = 65536;
  const SVG = "http://www.w3.org/2000/svg";
  // Branches are [name, size, files, first, behind, branches, leaves], leaves [name, size, first, blocks] or
  // [name, size, [[first, blocks], …]], with a 1 behind for a further name of a file.
  const NAME = 0, SIZE = 1, FILES = 2, FIRST = 3, BEHIND = 4, BRANCHES = 5, LEAVES = 6;
  const extentsOf = (leaf) => (Array.isArray(leaf[2]) ? leaf[2] : leaf[3] ? [[leaf[2], leaf[3]]] : []);
  const number = (n) => n.toLocaleString("en-US");
  const bytes = (n) => {
    const units = ["bytes", "KiB", "MiB", "GiB", "TiB"];
    let unit = 0, value = n;
    while (value >= 1024 && unit < 4) { value /= 1024; unit += 1; }
    return unit ? `${value.toFixed(1)} ${units[unit]}` : `${n} bytes`;
  };
  const percent = (part, whole) => {
    const value = whole ? (part / whole) * 100 : 0;
    return value > 0 && value < 0.05 ? "below 0.1 %" : `${value.toFixed(1)} %`;
  };
  const element = (name, attributes = {}, text) => {
    const made = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    if (text !== undefined) made.textContent = text;
    return made;
  };
  const shape = (name, attributes) => {
    const made = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    return made;
  };
  const canvas = (height) => shape("svg", { viewBox: `0 0 ${WIDTH} ${height}` });

  // What is pointed at, or has the focus, says what it is.
  const say = (target, text) => {
    target.setAttribute("aria-label", text);
    target.tip = text;
  };
  const show = (event) => {
    const text = event.target.tip;
    tip.style.display = text ? "block" : "none";
    if (!text) return;
    tip.textContent = text;
    const box = event.target.getBoundingClientRect();
    const [x, y] = event.clientX === undefined || event.type === "focusin" ? [box.left, box.bottom] : [event.clientX, event.clientY];
    tip.style.left = `${Math.max(4, Math.min(x + 14, innerWidth - tip.offsetWidth - 8))}px`;
    tip.style.top = `${y + 18 + tip.offsetHeight > innerHeight ? y - tip.offsetHeight - 10 : y + 18}px`;
  };
  addEventListener("pointermove", show);
  addEventListener("focusin", show);
  addEventListener("focusout", () => { tip.style.display = "none"; });

  const box = (svg, kind, x, y, width, height, text, label, labelClass) => {
    const rect = shape("rect", { class: kind, x: x.toFixed(2), y, width: Math.max(width, 0.5).toFixed(2), height });
    say(rect, text);
    svg.append(rect);
    const room = Math.floor((width - 8) / 6.2);
    if (label && room >= 3) {
      const written = shape("text", { x: (x + 4).toFixed(2), y: y + height / 2 + 4, class: labelClass || "" });
      written.textContent = label.length > room ? `${label.slice(0, room - 1)}…` : label;
      svg.append(written);
    }
    return rect;
  };

  // Which part of each partition is shown; it outlives a reload in the address.
  const views = new Map();
  const remember = () => {
    const parts = [...views].filter(([, v]) => v.from > 0 || v.to < v.all || v.find)
      .map(([index, v]) => [index, v.from, v.to, encodeURIComponent(v.find)].join(":"));
    history.replaceState(null, "", parts.length ? `#${parts.join(",")}` : location.pathname + location.search);
  };
  const recall = () => {
    for (const part of location.hash.slice(1).split(",").filter(Boolean)) {
      const [index, from, to, find] = part.split(":");
      const view = views.get(Number(index));
      if (!view) continue;
      view.from = Math.max(0, Math.min(Number(from) || 0, view.all - 1));
      view.to = Math.max(view.from + 1, Math.min(Number(to) || view.all, view.all));
      view.find = decodeURIComponent(find || "");
    }
  };

  const drawDisk = () => {
    const svg = canvas(40);
    for (const region of data.regions) {
      const x = (region.offset / data.disk_len) * WIDTH, width = (region.len / data.disk_len) * WIDTH;
      const kind = region.kind === "boot-sector" ? "groups" : region.kind;
      const what = region.kind === "partition" ? `partition ${region.label}` : region.kind === "gap" ? "unused" : "boot sector, wider here than to scale";
      const share = percent(region.len, data.disk_len);
      const rect = box(svg, kind, x, 0, Math.max(width, 1), 40, `${what}: ${number(region.len)} bytes (${bytes(region.len)}, ${share})\nat ${number(region.offset)}`, region.label);
      if (region.kind === "partition") rect.addEventListener("click", () => document.getElementById(`p-${region.label}`).scrollIntoView({ behavior: "smooth" }));
    }
    main.append(element("h2", {}, "The disk"), svg);
  };

  class Partition {
    constructor(partition, index) {
      this.p = partition;
      this.index = index;
      const title = `${partition.label}: ${partition.filesystem}, ${bytes(partition.len)} at ${bytes(partition.offset)}, type 0x${partition.type_code.toString(16).padStart(2, "0")}${partition.active ? ", active" : ""}`;
      main.append(element("h2", { id: `p-${partition.label}` }, title));
      if (!partition.runs.length) {
        const svg = canvas(24);
        box(svg, partition.filesystem === "swap" ? "reserved" : "free", 0, 0, WIDTH, 24, `${partition.filesystem}: ${number(partition.len)} bytes`);
        main.append(svg);
        return;
      }
      this.view = { from: 0, to: partition.blocks, all: partition.blocks, find: "" };
      views.set(index, this.view);
      this.tools = element("div", { class: "tools" });
      const tool = (label, name, act) => {
        const button = element("button", { type: "button", "aria-label": name }, label);
        button.addEventListener("click", act);
        this.tools.append(button);
        return button;
      };
      tool("+", "zoom in", () => this.zoom(0.5));
      this.out = tool("−", "zoom out", () => this.zoom(2));
      tool("←", "to the left", () => this.pan(-0.5));
      tool("→", "to the right", () => this.pan(0.5));
      this.all = tool("all", "show all", () => this.go(0, this.view.all));
      this.find = element("input", { type: "search", placeholder: "find a path", "aria-label": "find a path" });
      this.find.addEventListener("input", () => { this.view.find = this.find.value; this.draw(); });
      this.where = element("span", { class: "soft" });
      this.tools.append(this.find, this.where);
      this.body = element("div", { tabindex: "0", role: "group", "aria-label": `blocks and files of ${partition.label}` });
      this.body.addEventListener("keydown", (event) => this.key(event));
      this.body.addEventListener("wheel", (event) => {
        if (!event.ctrlKey) return;
        event.preventDefault();
        this.zoom(event.deltaY > 0 ? 1.25 : 0.8);
      }, { passive: false });
      main.append(this.tools, this.body);
      this.legend();
      this.table = element("table");
      main.append(this.table);
    }
    key(event) {
      const act = { "+": () => this.zoom(0.5), "=": () => this.zoom(0.5), "-": () => this.zoom(2), ArrowLeft: () => this.pan(-0.25), ArrowRight: () => this.pan(0.25), 0: () => this.go(0, this.view.all), Escape: () => this.go(0, this.view.all) }[event.key];
      if (act) { event.preventDefault(); act(); this.body.focus(); }
    }
    zoom(factor) {
      const { from, to, all } = this.view, middle = (from + to) / 2;
      const half = Math.max(4, Math.min(all, (to - from) * factor)) / 2;
      this.go(middle - half, middle + half);
    }
    pan(part) {
      const { from, to } = this.view, step = (to - from) * part;
      this.go(from + step, to + step);
    }
    go(from, to) {
      const { all } = this.view, len = Math.min(all, Math.max(4, to - from));
      const start = Math.max(0, Math.min(from, all - len));
      Object.assign(this.view, { from: start, to: start + len });
      this.draw();
      remember();
    }
    x(block) { return ((block - this.view.from) / (this.view.to - this.view.from)) * WIDTH; }
    span(first, behind) {
      const from = Math.max(first, this.view.from), to = Math.min(behind, this.view.to);
      return to > from ? [this.x(from), this.x(to) - this.x(from)] : null;
    }
    at(block) { return number(this.p.offset + block * this.p.block_size); }
    draw() {
      if (!this.view) return;
      const { from, to, all, find } = this.view;
      if (this.find.value !== find) this.find.value = find;
      this.out.disabled = this.all.disabled = to - from >= all;
      this.where.textContent = to - from >= all ? "" : `${bytes((to - from) * this.p.block_size)} from ${this.at(Math.floor(from))} on`;
      this.rows = [];
      this.seen = [];
      this.hits = 0;
      this.walk("", this.p.root, 0);
      const height = 62 + this.rows.length * ROW;
      const svg = canvas(height);
      this.blocks(svg);
      this.ticks(svg);
      this.rows.forEach((row, depth) => row.forEach((one) => this.item(svg, one, 60 + depth * ROW)));
      this.body.replaceChildren(svg);
      this.list();
    }
    blocks(svg) {
      // Neighbours that are too narrow are one stretch, what they hold on top of each other.
      let cluster = [];
      const flush = () => {
        if (!cluster.length) return;
        const first = cluster[0][1], last = cluster[cluster.length - 1], behind = last[1] + last[2];
        const sums = new Map();
        for (const [kind, , count] of cluster) sums.set(kind, (sums.get(kind) || 0) + count);
        const place = this.span(first, behind);
        let y = 0;
        for (const [kind, title] of data.kinds) {
          const count = sums.get(kind);
          if (!count) continue;
          const height = (count / (behind - first)) * 36;
          box(svg, kind, place[0], y, place[1], height, `${title}: ${number(count)} blocks (${bytes(count * this.p.block_size)})\nfrom block ${number(first)} on, at ${this.at(first)} on the disk`);
          y += height;
        }
        cluster = [];
      };
      let wide = 0;
      for (const run of this.p.runs) {
        const [, first, count] = run;
        const place = this.span(first, first + count);
        if (!place) continue;
        if (place[1] >= 1) { flush(); cluster = [run]; flush(); wide = 0; continue; }
        cluster.push(run);
        wide += place[1];
        if (wide >= 1) { flush(); wide = 0; }
      }
      flush();
    }
    ticks(svg) {
      const inside = this.p.groups.filter((block) => block >= this.view.from && block < this.view.to);
      const step = Math.ceil(inside.length / 200) || 1;
      const d = inside.filter((_, i) => i % step === 0).map((block) => `M${this.x(block).toFixed(2)} 37v6`).join("");
      svg.append(shape("path", { class: "tick", d }));
      const label = shape("text", { x: 0, y: 54 });
      label.textContent = `${number(this.p.groups.length)} block group${this.p.groups.length === 1 ? "" : "s"}${step > 1 ? `, a tick for every ${step}` : ""}`;
      svg.append(label);
    }
    // Directories and files that are wide enough to be seen, by their depth.
    walk(path, branch, depth) {
      const row = () => (this.rows[depth] = this.rows[depth] || []);
      for (const below of branch[BRANCHES] || []) {
        const place = this.span(below[FIRST], below[BEHIND]);
        if (!place) continue;
        const name = `${path}/${below[NAME]}`;
        const wide = depth < ROWS && place[1] >= NARROWEST;
        if (wide) row().push({ path: name, branch: below, place });
        this.walk(name, below, wide ? depth + 1 : ROWS);
      }
      for (const leaf of branch[LEAVES] || []) {
        const extents = extentsOf(leaf), further = Array.isArray(leaf[2]) && leaf[3] === 1;
        extents.forEach(([first, count], index) => {
          const place = this.span(first, first + count);
          if (!place) return;
          if (index === 0) this.seen.push([leaf[SIZE], `${path}/${leaf[NAME]}`, first, count, extents.length]);
          if (depth < ROWS && place[1] >= NARROWEST && !further) row().push({ path: `${path}/${leaf[NAME]}`, leaf, first, count, index, extents, place });
        });
      }
    }
    item(svg, one, y) {
      const hit = this.view.find && one.path.includes(this.view.find) ? " hit" : "";
      const name = one.path.slice(one.path.lastIndexOf("/") + 1);
      if (one.branch) {
        const b = one.branch;
        const rect = box(svg, `branch${hit}`, one.place[0], y, one.place[1], ROW - 2, `${one.path}/\n${number(b[SIZE])} bytes (${bytes(b[SIZE])}) in ${number(b[FILES])} files\nblocks ${number(b[FIRST])} to ${number(b[BEHIND] - 1)}, at ${this.at(b[FIRST])} on the disk`, `${name}/`);
        rect.setAttribute("tabindex", "0");
        const open = () => this.go(b[FIRST], b[BEHIND]);
        rect.addEventListener("click", open);
        rect.addEventListener("keydown", (event) => { if (event.key === "Enter") open(); });
        return;
      }
      const { leaf, first, count, index, extents } = one;
      const extent = extents.length > 1 ? `, extent ${index + 1} of ${extents.length}` : "";
      box(svg, `leaf${hit}`, one.place[0], y, one.place[1], ROW - 2, `${one.path}\n${number(leaf[SIZE])} bytes (${bytes(leaf[SIZE])})${extent}\nblocks ${number(first)} to ${number(first + count - 1)}, at ${this.at(first)} on the disk`, name, "onleaf");
    }
    list() {
      const find = this.view.find;
      const found = find ? this.seen.filter(([, path]) => path.includes(find)) : this.seen;
      found.sort((a, b) => b[0] - a[0]);
      const head = element("tr");
      const what = find ? `${number(found.length)} files with “${find}” in their path, the largest first` : `${number(found.length)} files here, the largest first`;
      for (const [text, kind] of [[what, ""], ["bytes", "n"], ["at, on the disk", "n"], ["extents", "n"]]) head.append(element("th", { class: kind }, text));
      const lines = found.slice(0, find ? 40 : 12).map(([size, path, first, , extents]) => {
        const line = element("tr");
        for (const [text, kind] of [[path, "path"], [number(size), "n"], [this.at(first), "n"], [String(extents), "n"]]) line.append(element("td", { class: kind }, text));
        return line;
      });
      this.table.replaceChildren(head, ...lines);
    }
    legend() {
      const list = element("ul", { class: "legend" });
      for (const [kind, amount] of this.p.shares) {
        const title = data.kinds.find(([known]) => known === kind)[1];
        const line = element("li");
        line.append(element("i", { class: kind }), `${title} ${bytes(amount)} (${percent(amount, this.p.len)})`);
        list.append(line);
      }
      main.append(list);
    }
  }

  const drawGrains = () => {
    const count = Math.ceil(data.disk_len / GRAIN);
    const stored = data.grains.reduce((sum, [, len]) => sum + len, 0);
    main.append(element("h2", {}, `Grains of the VMDK: ${number(stored)} of ${number(count)} are stored (${percent(stored, count)})`));
    const svg = canvas(20);
    box(svg, "free", 0, 0, WIDTH, 20, "grains that are not stored: zeros");
    for (let i = 0; i < data.grains.length; i += 1) {
      const [first] = data.grains[i];
      let held = data.grains[i][1], behind = first + held;
      while (i + 1 < data.grains.length && ((data.grains[i + 1][0] - first) / count) * WIDTH < 1) {
        i += 1;
        held += data.grains[i][1];
        behind = data.grains[i][0] + data.grains[i][1];
      }
      box(svg, "files", (first / count) * WIDTH, 0, Math.max(((behind - first) / count) * WIDTH, 1), 20, `${number(held)} grains stored (${bytes(held * GRAIN)})\nfrom grain ${number(first)} on, at ${number(first * GRAIN)} on the disk`);
    }
    main.append(svg);
    const list = element("ul", { class: "legend" });
    for (const image of data.images) {
      list.append(element("li", {}, image.size === null ? `${image.name}: being prepared` : `${image.name}: ${number(image.size)} bytes, ${bytes(image.data)} of them data`));
    }
    main.append(list);
  };

  // In a mount the page follows the generations. A script can be loaded from a file beside it where fetch may not.
  const follow = () => {
    if (data.generation === null) return;
    const live = document.getElementById("live");
    window.miragefsGeneration = (generation) => {
      live.textContent = "live";
      if (generation !== data.generation) location.reload();
    };
    const ask = () => {
      const script = element("script", { src: `generation.js?${Date.now()}` });
      script.onload = script.onerror = (event) => {
        if (event.type === "error") live.textContent = "the mount does not answer";
        script.remove();
        setTimeout(ask, 1000);
      };
      document.body.append(script);
    };
    ask();
  };

  drawDisk();
  const partitions = data.partitions.map((partition, index) => new Partition(partition, index));
  recall();
  partitions.forEach((partition) => partition.draw());
  drawGrains();
  follow();
  document.body.dataset.drawn = "yes";
})();
