// The page's moving parts: who asks, what happened, the sections put in, the dialogs.
//
// Everything shown is rendered by the gateway; this module fetches it, puts it in place and sends what
// a person decided. It knows no phase, no gate and no threshold. No library, no build step.

const API = "/api/v1/";
const TOKEN = "gateway-token";
const OPERATOR = "gateway-operator";
const REACH = "gateway-reach";
const SILENCE = 6000; // ms without a word from a stream until it counts as lost: it speaks every second
const FIRST_RETRY = 500;
const LAST_RETRY = 5000;
const PATIENCE = 15000; // ms that one answer may take
const HOLD = 1000;
const ARMED = 5000; // ms within which the second press counts

const $ = (selector, root = document) => root.querySelector(selector);
const link = $("#link");

// --- asking the gateway ---------------------------------------------------------------------------

class Unauthorized extends Error {}

async function ask(path, options = {}) {
  const headers = { ...options.headers };
  const token = sessionStorage.getItem(TOKEN);
  if (token) headers.Authorization = `Bearer ${token}`;
  const response = await fetch(API + path, { cache: "no-store", ...options, headers });
  if (response.status === 401) {
    await response.body?.cancel();
    throw new Unauthorized();
  }
  return response;
}

// --- the sections ---------------------------------------------------------------------------------

let fetching = null;
let wanted = false;
let behind = false; // the stream speaks, but the sections could not be fetched

/** Fetch the sections and put them in; one fetch at a time, and one more if something happened meanwhile. */
function refresh() {
  wanted = true;
  fetching ??= (async () => {
    try {
      while (wanted) {
        wanted = false;
        const reach = sessionStorage.getItem(REACH) ?? "15m";
        const response = await ask(`dashboard/panels?reach=${reach}`, { signal: AbortSignal.timeout(PATIENCE) });
        if (!response.ok) throw new Error(`the gateway answered ${response.status}`);
        show(await response.text());
        behind = false;
      }
    } finally {
      fetching = null;
    }
  })();
  return fetching;
}

/** Replace the sections that changed; what is open, scrolled or in focus stays so. */
function show(html) {
  const fresh = new DOMParser().parseFromString(html, "text/html").body.firstElementChild;
  const panels = $("#panels");
  const before = panels.dataset.condition;
  const known = new Map([...panels.children].map((section) => [section.id, section]));
  const sections = [...fresh.children].map((section) => {
    const old = known.get(section.id);
    if (old?.outerHTML === section.outerHTML) return old;
    if (old?.isEqualNode(section)) return old;
    if (old) keepOpen(old, section);
    return document.adoptNode(section);
  });
  const focus = document.activeElement?.closest("#panels") ? document.activeElement.id : "";
  const same = sections.length === panels.children.length && sections.every((s, i) => s === panels.children[i]);
  if (!same) {
    for (const [index, section] of sections.entries()) {
      const there = panels.children[index];
      if (there === section) continue;
      if (there?.id === section.id) there.replaceWith(section);
      else panels.insertBefore(section, there ?? null);
    }
    while (panels.children.length > sections.length) panels.lastElementChild.remove();
  }
  panels.dataset.version = fresh.dataset.version;
  if (focus && document.activeElement?.id !== focus) document.getElementById(focus)?.focus({ preventScroll: true });
  announce(before);
}

function keepOpen(old, fresh) {
  for (const open of old.querySelectorAll("details[open]")) {
    for (const details of fresh.querySelectorAll("details")) {
      if (details.dataset.key === open.dataset.key) details.open = true;
    }
  }
}

/** Say the state in the title, and aloud where it changed. */
function announce(before) {
  const state = $("#state");
  if (!state) return;
  const { condition } = state.dataset;
  const word = $(".word strong", state).textContent;
  document.title = `${word.toUpperCase()} · gateway`;
  document.body.dataset.condition = condition;
  $("#panels").dataset.condition = condition;
  if (before !== condition) $("#announce").textContent = `${word}. ${$(".meaning", state).textContent}`;
}

// --- the stream of what happens -------------------------------------------------------------------

function contact(state, text) {
  link.dataset.state = state;
  link.textContent = text;
  const stale = state === "lost" || state === "behind";
  $("#lost").hidden = state !== "lost";
  $("#behind").hidden = state !== "behind";
  document.body.classList.toggle("stale", stale);
}

/** Follow the gateway for ever: whatever ends the stream, ask again, a little later each time. */
async function follow() {
  let retry = FIRST_RETRY;
  for (;;) {
    try {
      await refresh();
      await listen(() => {
        retry = FIRST_RETRY;
        if (!behind) contact("live", "live");
      });
    } catch (error) {
      if (error instanceof Unauthorized) {
        await askForToken();
        continue;
      }
    }
    contact("lost", "no contact");
    await new Promise((resolve) => setTimeout(resolve, retry));
    retry = Math.min(LAST_RETRY, retry * 2);
  }
}

async function listen(onWord) {
  const silence = new AbortController();
  let timer = setTimeout(() => silence.abort(), SILENCE);
  try {
    const response = await ask("events", { signal: silence.signal });
    if (!response.ok) throw new Error(`the gateway answered ${response.status}`);
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let text = "";
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      clearTimeout(timer);
      timer = setTimeout(() => silence.abort(), SILENCE);
      onWord();
      text += value;
      const messages = text.split("\n\n");
      text = messages.pop();
      for (const message of messages) take(message);
    }
  } finally {
    clearTimeout(timer);
    silence.abort();
  }
}

function take(message) {
  const fields = new Map(message.split("\n").map((line) => [line.split(":", 1)[0], line.replace(/^[^:]*: ?/, "")]));
  const name = fields.get("event");
  if (!name) return;
  if (name === "hello" && JSON.parse(fields.get("data")).assets !== $("meta[name=assets]").content) {
    location.reload(); // the gateway was upgraded under this page
    return;
  }
  refresh().catch((error) => {
    if (error instanceof Unauthorized) return; // the stream ends soon, and asks for a token
    behind = true;
    contact("behind", "out of date");
  });
}

// --- who asks -------------------------------------------------------------------------------------

function askForToken() {
  const dialog = $("#dialog-token");
  const form = $("form", dialog);
  const refused = sessionStorage.getItem(TOKEN) !== null;
  sessionStorage.removeItem(TOKEN);
  contact("waiting", "token needed");
  $(".refusal", dialog).textContent = refused ? "The gateway does not know this token." : "";
  form.reset();
  closeDialogs();
  dialog.showModal();
  return new Promise((resolve) => {
    form.onsubmit = () => {
      sessionStorage.setItem(TOKEN, form.elements.token.value.trim());
      $("#forget").hidden = false;
      resolve();
    };
  });
}

$("#dialog-token").addEventListener("cancel", (event) => event.preventDefault());
$("#forget").addEventListener("click", () => {
  sessionStorage.clear();
  location.reload();
});
$("#forget").hidden = sessionStorage.getItem(TOKEN) === null;

// --- the dialogs ----------------------------------------------------------------------------------

function closeDialogs() {
  for (const dialog of document.querySelectorAll("dialog[open]")) dialog.close();
}

function open(action, data) {
  const dialog = document.getElementById(`dialog-${action}`);
  if (dialog.open || $("#dialog-token").open) return;
  closeDialogs();
  const form = $("form", dialog);
  form.reset();
  form.context = { ...data, version: $("#panels").dataset.version };
  refuse(form, null);
  const about = $(".about", form);
  if (about) about.textContent = [data.to, data.gate].filter(Boolean).join(" ").replaceAll("_", " ");
  const operator = form.elements.operator;
  if (operator) {
    operator.closest("label").hidden = sessionStorage.getItem(TOKEN) !== null;
    operator.value = sessionStorage.getItem(OPERATOR) ?? "";
  }
  disarm();
  dialog.showModal();
  if (action === "emergency") $("#hold").focus();
}

/** What the person decided, as the API takes it. */
function orderOf(form) {
  const fields = new FormData(form);
  const order = { reason: fields.get("reason").trim() };
  const operator = fields.get("operator")?.trim();
  if (operator && sessionStorage.getItem(TOKEN) === null) {
    order.operator = operator;
    sessionStorage.setItem(OPERATOR, operator);
  }
  if (fields.get("graceful") === "true") order.graceful = true;
  if (fields.get("force") === "true") order.force = true;
  if (fields.get("percentage")) order.percentage = Number(fields.get("percentage"));
  if (form.context.number) order.number = Number(form.context.number);
  return order;
}

async function send(form) {
  const path = form.dataset.path.replace("{gate}", encodeURIComponent(form.context.gate ?? ""));
  const headers = { "Content-Type": "application/json" };
  if (path !== "emergency") headers["If-Match"] = `"${form.context.version}"`;
  const body = JSON.stringify(orderOf(form));
  form.inert = true;
  try {
    const response = await ask(path, { method: "POST", headers, body, signal: AbortSignal.timeout(PATIENCE) });
    if (response.ok) {
      form.closest("dialog").close();
      await refresh();
      return;
    }
    await explain(form, response);
  } catch (error) {
    if (error instanceof Unauthorized) await askForToken();
    else refuse(form, { detail: `It did not reach the gateway: ${error.message}. Look before you try again.` });
  } finally {
    form.inert = false;
    disarm();
  }
}

async function explain(form, response) {
  const problem = await response.json().catch(() => ({ detail: `the gateway answered ${response.status}` }));
  refuse(form, problem);
  const force = $(".force", form);
  if (force && problem.gates?.length) force.hidden = false;
  if (response.status === 412) {
    await refresh().catch(() => {});
    form.context.version = $("#panels").dataset.version;
    refuse(form, { detail: "Something happened meanwhile. Look at the state behind this, then decide again." });
  }
}

/** Show why it was not done, gate by gate; null for nothing to say. */
function refuse(form, problem) {
  const place = $(".refusal", form);
  const force = $(".force", form);
  place.replaceChildren();
  if (!problem) {
    if (force) force.hidden = true;
    return;
  }
  const detail = document.createElement("p");
  detail.textContent = problem.detail;
  const gates = document.createElement("ul");
  for (const gate of problem.gates ?? []) {
    const line = document.createElement("li");
    const verdict = document.createElement("strong");
    verdict.textContent = gate.verdict;
    line.append(verdict, ` ${gate.type.replaceAll("_", " ")}: ${gate.reason}`);
    gates.append(line);
  }
  place.append(detail, ...(gates.children.length ? [gates] : []));
}

document.addEventListener("click", (event) => {
  const opener = event.target.closest("[data-action]");
  if (opener) open(opener.dataset.action, opener.dataset);
  event.target.closest("[data-close]")?.closest("dialog").close();
  const reach = event.target.closest("[data-reach]")?.dataset.reach;
  if (reach) {
    sessionStorage.setItem(REACH, reach);
    refresh().catch(() => {});
  }
});

for (const form of document.querySelectorAll("form[data-path]")) {
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    if (form.dataset.path !== "emergency") send(form);
  });
}

document.addEventListener("keydown", (event) => {
  if (event.altKey && event.shiftKey && event.code === "KeyE") {
    event.preventDefault();
    open("emergency", {});
  }
});

// --- the emergency button: held for a second, or pressed twice --------------------------------------

const hold = $("#hold");
let holding = 0;
let armedUntil = 0;

function begin() {
  if (holding) return;
  hold.classList.add("holding");
  holding = setTimeout(() => {
    release();
    armedUntil = 0;
    send(hold.form);
  }, HOLD);
}

function release() {
  clearTimeout(holding);
  holding = 0;
  hold.classList.remove("holding");
}

function disarm() {
  release();
  armedUntil = 0;
  hold.classList.remove("armed");
  $(".said", hold).textContent = "Hold to send everybody to control";
}

hold.addEventListener("pointerdown", (event) => event.button === 0 && begin());
hold.addEventListener("keydown", (event) => {
  if (event.repeat) event.preventDefault(); // a key held down would press again and again
  else if ([" ", "Enter"].includes(event.key)) begin();
});
for (const end of ["pointerup", "pointerleave", "pointercancel", "blur", "keyup"]) hold.addEventListener(end, release);
hold.addEventListener("contextmenu", (event) => event.preventDefault()); // a long touch is a hold here
hold.addEventListener("click", () => {
  if (hold.form.inert) return;
  if (Date.now() < armedUntil) {
    armedUntil = 0;
    send(hold.form);
    return;
  }
  armedUntil = Date.now() + ARMED;
  hold.classList.add("armed");
  $(".said", hold).textContent = "Press again to send everybody to control";
  setTimeout(() => armedUntil && Date.now() >= armedUntil && disarm(), ARMED + 50);
});

follow();
