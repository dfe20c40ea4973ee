"use strict";
// Backends as cards, those with a fault first. The figures are this proxy's, of the last five minutes.

// urgency orders backends as imapproxy backends does.
function urgency(b) {
  if (b.state === "down") return 0;
  if (b.suspect || b.kept || b.gone) return 1;
  if (b.state !== "up") return 2;
  return b.failures || b.damped ? 3 : 4;
}

function element(name, text, className) {
  const e = document.createElement(name);
  if (text !== undefined) e.textContent = text;
  if (className) e.className = className;
  return e;
}

// line is a name and its value. An empty value has no line.
function line(name, value) {
  if (value === "") return [];
  const dd = document.createElement("dd");
  dd.append(value instanceof Node ? value : String(value));
  return [element("dt", name), dd];
}

function percent(share) { return (100 * share).toFixed(share && share < 0.1 ? 1 : 0) + " %"; }

// shares draws a backend's part of the users above its part of the weights.
function shares(b) {
  const e = element("div", undefined, "shares");
  for (const [name, share] of [["users", b.user_share], ["weight", b.weight_share]]) {
    const bar = element("span", undefined, "bar " + name);
    bar.style.width = 100 * share + "%";
    e.append(bar);
  }
  const text = element("span", percent(b.user_share) + " of the users, " + percent(b.weight_share) + " of the weight");
  e.append(text);
  return e;
}

function histogram(counts) {
  return Object.entries(counts).filter(([, n]) => n).sort((a, b) => b[1] - a[1]).map(([name, n]) => n + " " + name).join(", ");
}

function milliseconds(n) { return seconds(n / 1000); }

// times is a table of how long connects, logins and answers took.
function times(lately) {
  const table = document.createElement("table");
  const head = document.createElement("tr");
  head.append(...["Last " + Math.round(lately.seconds / 60) + " min", "p50", "p99", "number"].map((text) => element("th", text)));
  table.append(head, ...[["dial", lately.dial], ["login", lately.login], ["first answer", lately.answer]].map(([name, t]) => {
    const row = document.createElement("tr");
    row.append(...[name, t.count ? milliseconds(t.p50) : "–", t.count ? milliseconds(t.p99) : "–", t.count].map((text) => element("td", String(text), "number")));
    return row;
  }));
  return table;
}

function failures(b) {
  const l = b.lately;
  return [[l.slow, "slow answers"], [l.failed_dials, "failed connects"], [l.failed_logins, "failed logins"], [l.refused_logins, "refused clients"], [l.silent, "silent connections given up"]]
    .filter(([n]) => n).map(([n, what]) => n + " " + what).join(", ");
}

function backendCard(b, pauses, drains) {
  const pause = pauses.find((p) => p.stable_id === b.stable_id), drain = drains.find((d) => d.stable_id === b.stable_id);
  const card = document.createElement("article");
  card.id = "backend-" + b.stable_id;
  const head = document.createElement("h3");
  head.append(b.id + " ", word(b.state));
  const why = [b.reason, b.kept && "kept by routing.panic_threshold", b.gone && "discovery doesn't list it any more", b.damped && "it flaps: no new users for a while", b.suspect && "can't be reached"]
    .filter(Boolean).join(", ");
  const about = document.createElement("dl");
  about.append(
    ...line("address", b.address), ...line("why", why), ...line("since", ago(b.since)),
    ...line("paused", pause ? "by " + pause.by + " until " + new Date(pause.until).toLocaleTimeString() + ", " + pause.connections + " connections left" +
      (histogram(pause.held) && ", held by: " + histogram(pause.held)) : ""),
    ...line("drain", drain ? drain.words : ""),
    ...line("held by", drain ? histogram(drain.held) : ""),
    ...line("drain ends", drain && drain.ends ? new Date(drain.ends).toLocaleTimeString() : ""),
    ...line("deadline", drain && drain.deadline ? new Date(drain.deadline).toLocaleTimeString() : ""),
    ...line("users", b.pins), ...line("weight", b.weight), ...line("tags", b.tags.join(" ")),
    ...line("sessions", b.sessions ? b.sessions + (histogram(b.attachments) && " (" + histogram(b.attachments) + ")") : 0),
    ...line("connections", b.bound ? b.connections + ", none waits beyond " + b.bound : ""),
    ...line("errors", failures(b) || "none"),
    ...line("last error", b.last_error ? (b.failures ? b.failures + " in a row: " : "") + b.last_error + ", " + ago(b.last_failure) : ""));
  card.append(head, shares(b), about, times(b.lately), backendVerbs(b, pauses, drains));
  return card;
}

function showBackends(all) {
  const sorted = [...all.backends].sort((a, b) => urgency(a) - urgency(b));
  $("backends").replaceChildren(...sorted.map((b) => backendCard(b, all.pauses, all.drains)));
}
