"use strict";
// Everything shown is set as text, never as markup: user names and errors come
// from strangers.

const $ = (id) => document.getElementById(id);
let token = sessionStorage.getItem("token") || "";

// takeToken takes the token that stands behind the # of the address, as imapproxy dev prints it. Browsers don't send that part.
function takeToken() {
  const given = new URLSearchParams(location.hash.slice(1)).get("token");
  if (!given) return false;
  token = given;
  sessionStorage.setItem("token", token);
  history.replaceState(null, "", location.pathname + location.search);
  return true;
}
takeToken();
window.onhashchange = () => { if (takeToken()) refresh(); };
let after = "";
let asked = false; // the page can't be read without a token, or without another one

async function get(path) {
  const headers = token ? { Authorization: "Bearer " + token } : {};
  const answer = await fetch(path, { headers, cache: "no-store", signal: AbortSignal.timeout(10000) });
  if (answer.status === 401) {
    asked = true;
    $("login").hidden = false;
    throw new Error(token ? "The token is wrong." : "A token is needed.");
  }
  const body = await answer.json();
  if (!answer.ok) throw new Error(body.error.message);
  return body;
}

function ago(time) {
  if (!time) return "";
  const s = Math.max(0, Math.round((Date.now() - new Date(time)) / 1000));
  if (s < 120) return s + " s ago";
  if (s < 7200) return Math.round(s / 60) + " min ago";
  if (s < 172800) return Math.round(s / 3600) + " h ago";
  return Math.round(s / 86400) + " days ago";
}

function word(text) {
  const e = document.createElement("span");
  e.textContent = text;
  e.className = text;
  return e;
}

// show sets the tab's title and icon. Green is for a proxy that has answered and has no problems; while it doesn't answer nothing is known.
function show(icon, mark, name) {
  $("icon").href = icon + ".svg";
  document.title = mark + "imapproxy" + (name ? " " + name : "");
}

// showProblems lists what is wrong with this proxy, in the words of imapproxy status.
function showProblems(status) {
  const all = status.problems || [];
  const critical = all.some((p) => p.critical);
  $("problems").replaceChildren(...all.map((p) => {
    const item = document.createElement("li");
    item.className = p.critical ? "critical" : "warning";
    item.textContent = (p.subject ? p.subject + ": " : "") + p.text + (p.since ? ", began " + ago(p.since) : "") + " [" + p.kind + "]";
    return item;
  }));
  const well = !all.length && status.state === "ready";
  $("wrong").hidden = !all.length;
  $("well").hidden = !well;
  $("well").className = "well";
  const state = word(status.state);
  state.className = well ? "well" : critical || status.state === "starting" ? "critical" : "warning";
  $("state").replaceChildren(state);
  show(well ? "well" : critical ? "critical" : "warning", all.length ? "(" + all.length + ") " : "", status.hostname);
}

// unknown says that nothing is known: the page's data is old, or there is none.
function unknown() {
  $("well").hidden = true;
  for (const e of $("state").children) e.className = "silent";
  show("unknown", "? ", $("hostname").textContent);
}

function rows(id, list, cells) {
  $(id).replaceChildren(...list.map((item) => {
    const row = document.createElement("tr");
    for (const cell of cells(item)) {
      const td = document.createElement("td");
      if (typeof cell === "number") td.className = "number";
      td.append(cell instanceof Node ? cell : String(cell));
      row.append(td);
    }
    return row;
  }));
}

// attachment is a session's, with why it isn't parked; the words show above it.
function attachment(s, reasons) {
  const e = document.createElement("span");
  e.textContent = s.attachment + (s.not_parked ? " (" + s.not_parked + ")" : "");
  e.title = reasons[s.not_parked] || "";
  return e;
}

function ratio(status) {
  const p = status.parking;
  const clients = status.sessions - (status.attachments.none || 0);
  const connections = status.backend_connections + (p ? p.watch_connections + p.warm_connections : 0);
  return clients + " client sessions : " + connections + " backend connections" +
    (connections ? " (" + (clients / connections).toFixed(1) + " : 1)" : "");
}

function sessionCells(s, reasons) {
  return [sessionLink(s.id), s.user, s.backend, s.why, s.client, s.listener + (s.tls ? " (TLS)" : ""), s.compressed ? "yes" : "no", s.state + (s.idle ? " (IDLE)" : ""),
    attachment(s, reasons), ago(s.started), ago(s.last_activity), s.commands, s.bytes_in, s.bytes_out, sessionVerbs(s)];
}

// ends says when a certificate or a revocation list ends.
function ends(c) {
  const days = Math.floor((new Date(c.ends) - Date.now()) / 86400000);
  return c.of + (c.list ? "'s revocation list" : "") + (days < 0 ? " has ended" : " ends in " + days + " days") + " (" + new Date(c.ends).toLocaleDateString() + ")";
}

// used says how much of a resource is used.
function used(r) {
  const show = r.name === "memory" ? bytes : number;
  return r.name + " " + show(r.used) + (r.limit ? " of " + show(r.limit) + " (" + Math.floor(100 * r.used / r.limit) + " %)" : "");
}

function proxyCells(p) {
  const name = p.proxy + (p.own ? " (this one)" : "");
  const s = p.answer;
  if (!s) {
    const none = word("no answer");
    none.className = "silent";
    return [name, p.address, none, "", "", "", "", "", "", "", p.error];
  }
  const epoch = s.agreement ? s.agreement.acked : s.proxy.epoch === null ? "" : s.proxy.epoch;
  const state = word(s.state);
  const problems = s.problems || [];
  state.className = problems.length ? problems.some((q) => q.critical) ? "critical" : "warning" : s.state === "ready" ? "well" : s.state;
  return [name, p.address, state, problems.length || "none", s.version, ago(s.started), s.sessions, epoch, s.proxy.isolated || "no", s.proxy.config, ""];
}

// leavingCells are those of an older process, after an upgrade: it has no admin API, its successor tells of it.
function leavingCells(p, l) {
  return [p.proxy, "pid " + l.pid, word("leaving"), "", l.version, "", l.sessions, "", "", "", "until " + new Date(l.until).toLocaleTimeString()];
}

// heard are the ids of the processes that have answered, or whose successors have; the others that the agreement counts with are
// shown as well, each once.
function silentOnes(all) {
  const heard = all.flatMap((p) => p.answer ? [p.answer.proxy.id, ...(p.answer.leaving || []).map((l) => l.id)] : []);
  const agreed = all.map((p) => p.answer && p.answer.agreement).find(Boolean);
  return (agreed ? agreed.proxies : []).filter((p) => !heard.includes(p.id) && !all.some((q) => q.error && q.address === p.admin)).map((p) =>
    ({ proxy: p.id + (p.host ? " on " + p.host : ""), address: p.admin, own: false, answer: null, error: "it doesn't answer, and the others count with it" }));
}

// showFleet shows all proxies of the service, and their older processes, where there is more than one. One that doesn't answer keeps it
// waiting for a while, and nothing else on the page.
let asking = false;
async function showFleet() {
  if (asking) return;
  asking = true;
  try {
    const answered = (await get("v1/cluster/status")).proxies;
    const all = answered.concat(silentOnes(answered));
    const different = (what) => new Set(answered.filter((p) => p.answer).map((p) => what(p.answer))).size > 1;
    const differ = [different((s) => s.version) && "The versions differ.", different((s) => s.proxy.config) && "The settings differ: the proxies don't behave alike."];
    $("differ").textContent = differ.filter(Boolean).join(" ");
    $("differ").hidden = !$("differ").textContent;
    const cells = all.flatMap((p) => [proxyCells(p), ...((p.answer && p.answer.leaving) || []).map((l) => leavingCells(p, l))]);
    rows("proxies", cells, (row) => row);
    $("fleet").hidden = cells.length < 2;
    // Users who aren't where the fleet sends them, in the words of imapproxy status.
    const moving = answered.filter((p) => p.answer && p.answer.agreement && p.answer.agreement.moving)
      .map((p) => [p.proxy + (p.own ? " (this one)" : ""), p.answer.agreement.moving]);
    rows("moves", moving, (cells) => cells);
    $("moving").hidden = !moving.length;
  } catch (e) {
    $("moving").hidden = true;
    $("fleet").hidden = true; // what is wrong stands above, where it concerns this proxy
  } finally {
    asking = false;
  }
}

// showDrains shows how far each proxy is with the backends that users leave, in the words of imapproxy drain --watch.
let draining = false;
async function showDrains() {
  if (draining) return;
  draining = true;
  try {
    const list = [];
    for (const p of (await get("v1/cluster/backends")).proxies) {
      for (const s of p.answer ? p.answer.drains : []) list.push([p.proxy + (p.own ? " (this one)" : ""), s.words]);
    }
    rows("drains", list, (cells) => cells);
    $("leaving").hidden = !list.length;
  } catch (e) {
    $("leaving").hidden = true;
  } finally {
    draining = false;
  }
}

async function refresh() {
  showFleet();
  showDrains();
  try {
    const query = new URLSearchParams();
    for (const name of ["user", "backend", "client", "attachment", "not_parked", "sort"]) if ($(name).value) query.set(name, $(name).value);
    if (after) query.set("after", after);
    const [status, backends, sessions] = await Promise.all(
      [get("v1/status"), get("v1/backends"), get("v1/sessions?" + query)]);
    $("hostname").textContent = status.hostname + " " + status.version;
    showProblems(status);
    const listeners = status.listeners.map((l) => l.name + " " + l.address).join(", ");
    const attachments = histogram(status.attachments) || "none";
    const p = status.parking;
    const parking = p ? " (" + status.backend_connections + " of sessions, " + p.watch_connections + " of watches, " + p.warm_connections + " warm)" : "";
    $("parked").hidden = !status.attachments.parked;
    $("parked").textContent = (status.attachments.parked || 0) + " of them are parked: they idle and have no backend connection. " +
      "Watches hear for them what happens in their mailboxes, and warm connections wait for their next command.";
    $("summary").textContent = status.sessions + " sessions (" + attachments + "). " + ratio(status) + parking + ". Started " + ago(status.started) + ". Listeners: " + listeners +
      ". Discovery: last good set " + (status.discovery.last_good ? ago(status.discovery.last_good) : "never") +
      (status.discovery.saved ? ", read from disk: there was no live answer since the start." : ".") +
      (status.agreement && status.agreement.renewed ? " Consul answered " + ago(status.agreement.renewed) + "." : "");
    $("ends").textContent = "Certificates: " + (status.certificates.map(ends).join(", ") || "none") + ".";
    $("used").textContent = "Used: " + status.resources.map(used).join(", ") + ". A restart by imapproxy upgrade disconnects no client; systemctl restart would disconnect " + status.sessions + " sessions.";
    showBackends(backends);
    rows("sessions", sessions.sessions, (s) => sessionCells(s, sessions.reasons));
    $("next").hidden = !sessions.next;
    $("next").onclick = () => { after = sessions.next; refresh(); };
    $("first").hidden = !after;
    await showAccess();
    await showHistory();
    await showLists();
    await showOne();
    $("error").hidden = true;
    if (asked) $("login").hidden = true;
    asked = false;
  } catch (e) {
    $("error").textContent = e.message;
    $("error").hidden = false;
    unknown();
  }
}

$("login").onsubmit = (e) => {
  e.preventDefault();
  token = $("token").value;
  asked = true; // the form goes when the answer has come
  sessionStorage.setItem("token", token);
  refresh();
};
$("filter").onsubmit = (e) => { e.preventDefault(); after = ""; refresh(); };
$("move").onsubmit = (e) => {
  e.preventDefault();
  verb("move " + $("move-user").value + " to " + $("move-to").value, "v1/move", { user: $("move-user").value, backend: $("move-to").value });
};
$("first").onclick = () => { after = ""; refresh(); };

async function loop() {
  await refresh();
  setTimeout(loop, 5000);
}
loop();
