"use strict";
// Tiles with an hour of sparkline, and what parking saves. The samples are the proxy's, which remembers an hour of them.

let samples = [];

function number(n) {
  return Math.abs(n) >= 100 || Number.isInteger(n) ? String(Math.round(n)) : n.toFixed(1);
}

function bytes(n) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let i = 0;
  while (Math.abs(n) >= 1000 && i < units.length - 1) { n /= 1000; i++; }
  return number(n) + " " + units[i];
}

// sparkline draws the values of the last hour from 0 to the largest one.
function sparkline(values) {
  const ns = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(ns, "svg");
  svg.setAttribute("viewBox", "0 0 360 100");
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("aria-hidden", "true");
  const most = Math.max(1e-9, ...values);
  const line = document.createElementNS(ns, "polyline");
  line.setAttribute("points", values.map((v, i) => (360 - values.length + i + 0.5) + "," + (98 - 94 * Math.max(0, v) / most).toFixed(1)).join(" "));
  line.setAttribute("fill", "none");
  line.setAttribute("stroke", "currentColor");
  line.setAttribute("stroke-width", "2");
  line.setAttribute("vector-effect", "non-scaling-stroke");
  svg.append(line);
  return svg;
}

function tile(id, title, value, more, values) {
  const box = document.createElement("article");
  box.id = "tile-" + id;
  const head = document.createElement("h3");
  head.textContent = title;
  const big = document.createElement("b");
  big.textContent = value;
  const small = document.createElement("small");
  small.textContent = " " + more;
  box.append(head, big, small, sparkline(values));
  return box;
}

function split(t) {
  return "client " + number(t.client) + ", proxy " + number(t.proxy) + ", backend " + number(t.backend) + ", resume " + number(t.resume) + " ms";
}

function showTiles(history) {
  if (!samples.length) return;
  const last = samples[samples.length - 1];
  const of = (f) => samples.map(f);
  const sum = (f) => samples.reduce((n, s) => n + f(s), 0);
  const commands = [...samples].reverse().find((s) => s.commands) || last;
  const limit = (most, show) => most ? "of " + show(most) : "no limit is known";
  $("tiles").replaceChildren(
    tile("sessions", "Sessions", number(last.sessions), (last.logged_in - last.parked) + " attached, " + last.parked + " parked", of((s) => s.sessions)),
    tile("connections", "Connections to backends", number(last.connections), "without parking: " + last.logged_in, of((s) => s.connections)),
    tile("logins", "Logins in the last hour", number(sum((s) => s.logins)), sum((s) => s.failed_logins) + " failed", of((s) => s.logins)),
    tile("failed", "Failed logins in the last hour", number(sum((s) => s.failed_logins)), "", of((s) => s.failed_logins)),
    tile("p50", "Commands, p50", number(commands.p50.all) + " ms", split(commands.p50), of((s) => s.p50.all)),
    tile("p99", "Commands, p99", number(commands.p99.all) + " ms", split(commands.p99), of((s) => s.p99.all)),
    tile("descriptors", "Descriptors", number(last.descriptors), limit(history.descriptor_limit, number), of((s) => s.descriptors)),
    tile("memory", "Memory", bytes(last.memory), limit(history.memory_limit, bytes), of((s) => s.memory)));
  $("tiles").hidden = false;
}

function showBill(bill) {
  const row = (name, s) => [name, number(s.logged_in), number(s.connections), number(s.saved),
    bill.backend_process_memory ? bytes(s.saved_memory) : "–", s.logins, s.backend_logins, s.saved_logins];
  const covered = (name, s, whole) => s.seconds < whole - 60 ? name + " (" + Math.round(s.seconds / 60) + " min of it)" : name;
  rows("bill", [row("now", bill.now), row(covered("this hour", bill.hour, 3600), bill.hour), row(covered("this day", bill.day, 86400), bill.day)], (r) => r);
  $("formula").textContent = bill.formula + (bill.backend_process_memory ? " (" + bytes(bill.backend_process_memory) + ")." : ", which isn't set.");
  $("billing").hidden = false;
}

async function showHistory() {
  const after = samples.length ? "?after=" + encodeURIComponent(samples[samples.length - 1].time) : "";
  const history = await get("v1/history" + after);
  samples = samples.concat(history.samples).slice(-360);
  showTiles(history);
  showBill(history.bill);
}
