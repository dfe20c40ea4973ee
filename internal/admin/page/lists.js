"use strict";
// Lists of what has happened, and one session. A list is asked for while it is open.

function clock(time) {
  const e = document.createElement("span");
  e.textContent = new Date(time).toLocaleTimeString();
  e.title = time;
  return e;
}

function seconds(n) { return !n ? "0" : n < 0.1 ? (1000 * n).toFixed(1) + " ms" : n.toFixed(n < 10 ? 2 : 0) + " s"; }

function titled(text, title) {
  const e = document.createElement("span");
  e.textContent = text;
  e.title = title || "";
  return e;
}

function slowCells(c) {
  return [c.command, c.status, seconds(c.took), seconds(c.client), seconds(c.proxy), seconds(c.backend_wait), seconds(c.resume), traceLink(c)];
}

// traceLink leads to a command's trace. Without telemetry.trace_url it is the trace's id.
function traceLink(c) {
  if (!c.trace_url) return c.trace_id;
  const e = document.createElement("a");
  e.textContent = "trace";
  e.title = c.trace_id;
  e.href = c.trace_url;
  e.rel = "noreferrer";
  e.target = "_blank";
  return e;
}

const lists = {
  failing: async () => {
    const f = await get("v1/failing");
    $("failing-count").textContent = f.failures + " failures since " + new Date(f.since).toLocaleTimeString();
    $("failing-since").textContent = "Since " + new Date(f.since).toLocaleTimeString() + ":";
    const all = [["address", f.addresses], ["network", f.networks], ["user", f.users], ["reason", f.reasons]].flatMap(([what, list]) => list.map((one) => [what, one]));
    rows("failing", all, ([what, one]) => [what, one.name, one.failures, clock(one.last), one.reason]);
  },
  changes: async () => {
    const all = (await get("v1/changes")).changes;
    $("changes-count").textContent = all.length;
    rows("changes", all, (c) => [clock(c.time), word(c.level), c.message, c.fields.map((f) => f.name + "=" + f.value).join(" ")]);
  },
  ended: async () => {
    const query = new URLSearchParams();
    if ($("user").value) query.set("user", $("user").value);
    const e = await get("v1/ended?" + query);
    $("ended-count").textContent = e.sessions.length + ($("user").value ? " of " + $("user").value : "");
    rows("ended", e.sessions, (s) => [clock(s.time), s.id, s.user, titled(s.reason, e.reasons[s.reason]), s.backend, s.client, s.listener, s.duration, s.commands, s.bytes_in, s.bytes_out]);
  },
  slow: async () => {
    const query = new URLSearchParams();
    if ($("user").value) query.set("user", $("user").value);
    const all = (await get("v1/slow?" + query)).commands;
    $("slow-count").textContent = all.length + ($("user").value ? " of " + $("user").value : "");
    rows("slow", all, (c) => [clock(c.time), c.session, c.user, c.backend, ...slowCells(c)]);
  },
  config: async () => {
    const c = await get("v1/config");
    const d = c.disk;
    $("config-state").textContent = c.digest + (!d ? ", not from a file" : d.same ? ", the same as its file" : d.error ? ", its file has a mistake" : ", its file differs");
    $("config-about").textContent = (c.file ? c.file + ", " : "") + "read " + ago(c.since) + ", digest " + c.digest +
      (!d ? "" : d.error ? ". The file: " + d.error : d.same ? ". The file is the same." : ". The file's digest is " + d.digest + "; it differs in " +
        d.changes.map((x) => x.setting + (x.need_restart ? " (needs a restart)" : "")).concat(d.files.map((x) => x.path)).join(", ") + "."); 
    $("config").textContent = c.text;
  },
};

// showLists fills the lists. The counts of failed logins and events are of interest while the lists are closed, too.
async function showLists() {
  $("past").hidden = false;
  for (const [name, list] of Object.entries(lists)) {
    if (location.hash === "#" + name) $(name + "-box").open = true;
    if (name !== "config" || $("config-box").open || !$("config-state").textContent) await list();
  }
}

// kept adds what a session did lately to what was seen of it before: on a busy proxy its commands are soon replaced by others'.
let kept = { session: "", commands: [], attachments: [] };
function keep(lately) {
  const before = kept.session === lately.session ? kept : { commands: [], attachments: [] };
  const newer = (all, old, most) => all.concat(old.filter((o) => !all.length || new Date(o.time) < new Date(all[all.length - 1].time))).slice(0, most);
  kept = { session: lately.session, commands: newer(lately.commands, before.commands, 20), attachments: newer(lately.attachments, before.attachments, 50) };
}

// showOne shows one session, which may have ended.
let shown = new URLSearchParams(location.hash.slice(1)).get("session") || "";
async function showOne() {
  $("one").hidden = !shown;
  if (!shown) return;
  const [here, ended, slow, lately] = await Promise.all([get("v1/sessions?limit=1&id=" + encodeURIComponent(shown)),
    get("v1/ended?session=" + encodeURIComponent(shown)), get("v1/slow?session=" + encodeURIComponent(shown)), get("v1/commands?session=" + encodeURIComponent(shown))]);
  keep(lately);
  const about = here.sessions[0] || ended.sessions[0];
  $("one-id").textContent = shown + (here.sessions[0] ? "" : about ? " (ended)" : " isn't known any more");
  $("one-about").replaceChildren(...Object.entries(about || {}).flatMap(([name, value]) => {
    const dt = document.createElement("dt"), dd = document.createElement("dd");
    dt.textContent = name;
    if (name === "trace_url" && value) dd.append(traceLink(about));
    else dd.textContent = String(value) + (name === "not_parked" && value ? ": " + here.reasons[value] : "") + (name === "reason" ? ": " + (ended.reasons[value] || "") : "");
    return [dt, dd];
  }));
  rows("one-commands", kept.commands, (c) => [clock(c.time), ...slowCells(c)]);
  const until = (i) => i ? new Date(kept.attachments[i - 1].time) : Date.now();
  rows("one-attachments", kept.attachments.map((a, i) => [clock(a.time), a.from, a.to, seconds(Math.max(0, (until(i) - new Date(a.time)) / 1000))]), (cells) => cells);
  rows("one-slow", slow.commands, (c) => [clock(c.time), ...slowCells(c)]);
}

function sessionLink(id) {
  const e = document.createElement("button");
  e.className = "link";
  e.type = "button";
  e.textContent = id;
  e.onclick = () => { shown = id; location.hash = "session=" + id; showOne(); $("one").scrollIntoView(); };
  return e;
}
