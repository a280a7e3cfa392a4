const $ = (id) => document.getElementById(id);

const NO_ANSWER = "The service did not answer. Check your connection, then try again.";
const PAGE = { days: 30, limit: 10 };

let zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
let key = "";

class Problem extends Error {
  constructor(status, message, kind = "") {
    super(message);
    this.status = status;
    this.kind = kind; // as in `type`: "/docs#<kind>"
  }
}

// --- the API ---

async function call(path, query = {}, init = {}) {
  const headers = { ...init.headers, ...(key && { Authorization: `Bearer ${key}` }) };
  const tz = zone;
  const search = new URLSearchParams({ ...query, ...(tz && { tz }) });
  const signal = AbortSignal.timeout(15_000);
  try {
    const answer = await fetch(`${path}?${search}`, { ...init, headers, signal, cache: "no-store" });
    if (!answer.ok) throw await problem(answer);
    return answer.status === 204 ? null : await answer.json();
  } catch (error) {
    if (!(error instanceof Problem)) throw new Problem(0, NO_ANSWER);
    if (error.kind !== "time-zone" || !tz) throw error;
    // The server's list of time zones may be older than the browser's: its own will do.
    zone = "";
    return call(path, query, init);
  }
}

async function problem(answer) {
  if (answer.status === 401) {
    $("key").hidden = $("calendar-key").hidden = false;
    const asked = "This service asks for an access key: give it at the top of the page, then try again.";
    return new Problem(401, key ? "The service does not accept this access key." : asked);
  }
  const { detail, type = "" } = await answer.json().catch(() => ({}));
  const unexplained = `The service answered with an error (${answer.status}). Try again in a moment.`;
  return new Problem(answer.status, detail || unexplained, type.split("#")[1]);
}

function pathOf(name) {
  // A URL swallows "." and "..", and a server may take an encoded slash for a real one.
  if (/^\.{0,2}$|\//.test(name)) {
    throw new Problem(400, name ? "A name has letters only." : "Type a name first.", "username");
  }
  return `/hello/${encodeURIComponent(name)}`;
}

// --- what the reader sees ---

function say(id, text, failed = false) {
  $(id).textContent = text;
  $(id).classList.toggle("failed", failed);
}

function refuse(field) {
  field.setAttribute("aria-invalid", "true");
  field.focus();
}

/** Runs `work` for each submit of the form, one at a time; what it throws becomes the form's status. */
function onSubmit(form, work) {
  const button = form.querySelector(".button");
  const status = `${form.id}-status`;
  form.addEventListener("input", (event) => event.target.removeAttribute("aria-invalid"));
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    // Not `disabled`, which would take the keyboard focus away.
    if (button.ariaDisabled === "true") return;
    button.ariaDisabled = "true";
    for (const field of form.querySelectorAll("input")) field.removeAttribute("aria-invalid");
    say(status, "");
    try {
      await work(status);
    } catch (error) {
      say(status, error.message, true);
      if (error.status === 401) refuse($("key-value"));
      else if (error.kind === "date-of-birth") refuse($("save-date"));
      else if (error.kind === "username") refuse(form.querySelector("input"));
    } finally {
      button.ariaDisabled = "false";
    }
  });
}

// Calendar dates have no time zone: read and shown in UTC, none can shift them.
const dayOf = (date) => new Date(`${date}T00:00:00Z`);
const dayFormat = (options) => new Intl.DateTimeFormat(undefined, { timeZone: "UTC", ...options });
const dayAndMonth = dayFormat({ day: "numeric", month: "long" });
const dayInWeek = dayFormat({ weekday: "short", day: "numeric", month: "long" });
const wholeDate = dayFormat({ dateStyle: "long" });

function yesterday() {
  const now = new Date();
  return new Date(Date.UTC(now.getFullYear(), now.getMonth(), now.getDate() - 1)).toISOString().slice(0, 10);
}

// --- say hello ---

const nameIn = (id) => $(id).value.trim();

onSubmit($("greet"), async (status) => {
  const name = nameIn("greet-name");
  const add = $("greet-add");
  add.hidden = true;
  try {
    const { message } = await call(pathOf(name));
    say(status, message);
    history.replaceState(null, "", `#name=${encodeURIComponent(name)}`);
  } catch (error) {
    if (error.status !== 404) throw error;
    say(status, `Nobody called ${name} is known here yet.`);
    add.hidden = false;
  }
});

$("greet-add").addEventListener("click", () => {
  $("save-name").value = nameIn("greet-name");
  $("save-date").focus();
});

// --- add or change a birthday ---

onSubmit($("save"), async (status) => {
  const name = nameIn("save-name");
  const path = pathOf(name);
  const dateOfBirth = $("save-date").value;
  if (!dateOfBirth) throw new Problem(400, "Give the whole date: day, month and year.", "date-of-birth");
  const put = (condition) =>
    call(path, {}, {
      method: "PUT",
      headers: { "Content-Type": "application/json", ...condition },
      body: JSON.stringify({ dateOfBirth }),
    });
  try {
    await put({ "If-None-Match": "*" });
  } catch (error) {
    if (error.status !== 412) throw error;
    if (!(await confirmed(name, dateOfBirth))) return say(status, "Nothing was changed.");
    await put();
  }
  say(status, `Saved. ${name}’s birthday is ${dayAndMonth.format(dayOf(dateOfBirth))}.`);
  showNext();
});

function confirmed(name, dateOfBirth) {
  const dialog = $("change");
  const date = wholeDate.format(dayOf(dateOfBirth));
  $("change-text").textContent = `There is already a birthday for ${name}. Change it to ${date}?`;
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true });
  });
}

$("change-yes").addEventListener("click", () => $("change").close("yes"));
$("change-no").addEventListener("click", () => $("change").close());

// --- who is next ---

let cursor = null;
let turn = 0;

async function showNext(after = null) {
  const mine = ++turn;
  const list = $("next-list");
  const more = $("next-more");
  more.ariaDisabled = "true";
  try {
    const { birthdays, next } = await call("/birthdays", { ...PAGE, ...(after && { after }) });
    if (mine !== turn) return;
    const rows = birthdays.map(person);
    if (after) list.append(...rows);
    else list.replaceChildren(...rows);
    cursor = next;
    more.hidden = !next;
    more.textContent = "More";
    say("next-status", list.children.length ? "" : "Nobody’s birthday is near. Add one, and it shows up here.");
    if (after) rows[0]?.focus();
  } catch (error) {
    if (mine !== turn) return;
    say("next-status", error.message, true);
    cursor = after;
    more.hidden = error.status === 401;
    more.textContent = "Try again";
  } finally {
    if (mine === turn) more.ariaDisabled = "false";
  }
}

function person({ username, date, days }) {
  const row = $("person").content.cloneNode(true).firstElementChild;
  row.classList.toggle("today", days === 0);
  row.querySelector(".who").textContent = username;
  row.querySelector(".when").textContent = ["today", "tomorrow"][days] ?? `in ${days} days`;
  const time = row.querySelector("time");
  time.dateTime = date;
  time.textContent = dayInWeek.format(dayOf(date));
  // The page is English, the date is in the reader's language: say so to screen readers.
  time.lang = dayInWeek.resolvedOptions().locale;
  return row;
}

$("next-more").addEventListener("click", (event) => {
  if (event.currentTarget.ariaDisabled !== "true") showNext(cursor);
});

// --- calendar, access key, footer ---

const calendar = new URL("/birthdays.ics", location.href);
$("calendar-link").href = $("calendar-link").textContent = calendar.href;
$("calendar-open").href = calendar.href.replace(/^https?:/, "webcal:");

$("calendar-copy").addEventListener("click", async () => {
  try {
    await navigator.clipboard.writeText(calendar.href);
    say("calendar-status", "Copied.");
  } catch {
    // Without TLS, or without permission, a page may not write to the clipboard.
    getSelection().selectAllChildren($("calendar-link"));
    say("calendar-status", "The address is selected: copy it with Ctrl+C or ⌘C.");
  }
});

onSubmit($("key"), async (status) => {
  key = $("key-value").value.trim();
  await call("/birthdays", { ...PAGE, limit: 1 });
  showNext();
  say(status, "This key is now sent with each request.");
});

async function showVersion() {
  const { version, commit } = await (await fetch("/version")).json();
  $("version").textContent = `Version ${version}${/^[0-9a-f]{7}/.test(commit) ? ` (${commit.slice(0, 7)})` : ""}`;
}

$("save-date").max = yesterday();
showNext();
showVersion().catch(() => {}); // the footer can do without

const linked = new URLSearchParams(location.hash.slice(1)).get("name");
if (linked) {
  $("greet-name").value = linked;
  $("greet").requestSubmit();
}
