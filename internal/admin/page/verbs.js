"use strict";
// What operators do. Each verb is tried dry first, and done when its effect was confirmed.

let access = { change: false };

async function showAccess() {
  access = await get("v1/access");
  document.body.classList.toggle("operator", access.change);
  $("access").replaceChildren(...access.change ? [] : ["Commands are not available here: " + access.why + ". ",
    ...access.token ? [button("Enter the operator's token", askToken)] : []]);
}

// askToken shows the form for a token though the page can be read without one, or with the one that it has.
function askToken() {
  $("login").hidden = false;
  $("login").scrollIntoView();
  $("token").focus();
}

async function post(path, body) {
  const headers = { "Content-Type": "application/json", Authorization: "Bearer " + token };
  const answer = await fetch(path, { method: "POST", headers, body: JSON.stringify(body), cache: "no-store", signal: AbortSignal.timeout(30000) });
  const said = await answer.json();
  if (!answer.ok) throw new Error(said.error.message);
  return said;
}

// summary shows an answer in short: what is null or empty says nothing.
function summary(answer) {
  return JSON.stringify(answer, (_, v) => v === null || v === "" || Array.isArray(v) && !v.length ? undefined : v, 2);
}

// verb does what body says, after its dry run was shown and confirmed. The end of a pause has no dry run.
async function verb(what, path, body, hasDry = true) {
  body.by = "page";
  $("done").hidden = true;
  try {
    const dry = hasDry ? summary(await post(path, { ...body, dry_run: true })) : "There is no dry run of it.";
    if (!await confirmed(what, dry)) return;
    const done = await post(path, body);
    $("done").textContent = what + ": done. " + summary(done);
    $("done").className = "well";
  } catch (e) {
    $("done").textContent = what + ": " + e.message;
    $("done").className = "error";
  }
  $("done").hidden = false;
  refresh();
}

function confirmed(what, dry) {
  $("confirm-what").textContent = what + "?";
  $("confirm-dry").textContent = dry;
  const dialog = $("confirm");
  return new Promise((resolve) => {
    $("confirm-yes").onclick = () => { dialog.close(); resolve(true); };
    $("confirm-no").onclick = () => { dialog.close(); resolve(false); };
    dialog.oncancel = () => resolve(false);
    dialog.showModal();
  });
}

function button(text, act) {
  const e = document.createElement("button");
  e.type = "button";
  e.textContent = text;
  e.onclick = act;
  return e;
}

function buttons(...all) {
  const e = document.createElement("span");
  e.className = "verbs";
  e.append(...all.filter(Boolean).flatMap((b) => [b, " "]));
  return e;
}

function backendVerbs(b, pauses, drains) {
  const paused = pauses.some((p) => p.stable_id === b.stable_id), drained = drains.some((d) => d.stable_id === b.stable_id && d.operator);
  return buttons(
    drained ? button("undrain", () => verb("undrain " + b.id, "v1/undrain", { backend: b.id })) : button("drain", () => verb("drain " + b.id, "v1/drain", { backend: b.id })),
    paused ? button("resume", () => verb("resume " + b.id, "v1/resume", { backend: b.id }, false)) : button("pause", () => verb("pause " + b.id, "v1/pause", { backend: b.id })),
    button("move a user here", () => { $("move-to").value = b.id; $("move-user").focus(); }),
    button("kick all", () => verb("kick all sessions on " + b.id, "v1/cluster/kick", { backend: b.id })));
}

function sessionVerbs(s) {
  return buttons(button("kick", () => verb("kick session " + s.id + " of " + s.user, "v1/kick", { session: s.id })),
    s.user && button("kick user", () => verb("kick all sessions of " + s.user, "v1/cluster/kick", { user: s.user })));
}
