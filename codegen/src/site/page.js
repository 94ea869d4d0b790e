"use strict";
const catalog = JSON.parse(document.getElementById("data").textContent);
const docs = catalog.rustdoc;
const $ = (id) => document.getElementById(id);
const text = (index) => catalog.texts[index];

// What people type, in lower case without punctuation, so that `import-from` finds `import_from`.
const fold = (s) => s.toLowerCase().replace(/[^a-z0-9]+/g, " ").trim();

// Words that say nothing of what is looked for.
const fillers = new Set(["a", "an", "the", "of", "to", "in", "on", "for", "from", "by", "with", "my", "all", "i", "do", "how", "is", "into"]);

// The words that tell, in any order: `start a vm` is `vm start`.
const telling = (s) => fold(s).split(" ").filter((word) => !fillers.has(word)).sort().join(" ");

// Singular and plural are one word.
const stem = (word) => (word.length > 3 && word.endsWith("s") ? word.slice(0, -1) : word);

const calls = catalog.calls.map((call, index) => {
  const parameters = call.parameters.map((p) => ({ ...p, about: text(p.about) }));
  const segments = call.path.split("/").filter(Boolean);
  return {
    ...call,
    index,
    parameters,
    id: `${call.verb} ${call.path}`,
    segments,
    words: new Set(fold(`${call.verb} ${call.path.replace(/{[^}]*}/g, "")}`).split(" ")),
    placeholders: new Set(fold(call.path.replace(/[^/]*[^}](\/|$)/g, " ")).split(" ")),
    summaryWords: fold(call.summary).split(" ").map(stem),
    aliases: (call.aliases || []).map(fold),
    plainAliases: (call.aliases || []).map((alias) => telling(alias)),
    aliasWords: new Set((call.aliases || []).flatMap((alias) => fold(alias).split(" "))),
    names: parameters.map((p) => p.name),
    foldedNames: parameters.map((p) => fold(p.name.replace("[n]", ""))),
    privilegeText: call.privileges.join(" ").toLowerCase(),
    mainPrivilege: (call.privileges[0] || "").toLowerCase(),
  };
});

// Words of tasks that the API calls otherwise.
const synonyms = {
  add: ["post"], new: ["post"], make: ["post"], edit: ["put"], set: ["put"], modify: ["put"], destroy: ["delete"], get: ["get"],
  read: ["get"], cancel: ["delete"], delete: ["delete"], remove: ["delete"], list: ["get"], create: ["post"], update: ["put"], change: ["put"], show: ["get"],
  ...catalog.synonyms,
};

const roots = new Set(calls.map((call) => call.segments[0]));

function asPath(query) {
  // A pasted address, or a path with real values in it.
  const match = /^(?:[a-z]+sh\s+)?(?:(get|post|put|delete|create|set|ls)\s+)?(?:https?:\/\/[^/\s]+)?(?:\/?api2\/(?:json|extjs|html))?(\/?[^\s?#]*\/[^\s?#]*)/i.exec(query.trim());
  if (!match) return null;
  // Without a slash before it, only what begins as paths do is one.
  if (!match[2].startsWith("/") && !roots.has(match[2].split("/")[0])) return null;
  const first = (match[1] || "").toLowerCase();
  const verb = { create: "POST", set: "PUT", ls: "GET" }[first] || first.toUpperCase();
  return { verb, segments: match[2].split("/").filter(Boolean).map(decoded) };
}

// An address is whatever somebody pastes.
function decoded(segment) {
  try {
    return decodeURIComponent(segment);
  } catch {
    return segment;
  }
}

function pathScore(call, wanted) {
  if (wanted.verb && wanted.verb !== call.verb) return 0;
  if (wanted.segments.length > call.segments.length) return 0;
  let score = 100;
  for (let i = 0; i < wanted.segments.length; i++) {
    const own = call.segments[i], given = wanted.segments[i];
    if (own === given) score += 3;
    else if (own.startsWith("{")) score += 1;
    else if (i === wanted.segments.length - 1 && own.startsWith(given)) score += 1;
    else return 0;
  }
  return score - 10 * (call.segments.length - wanted.segments.length);
}

function wordScore(call, word, raw) {
  let best = 0;
  const last = fold(call.segments.filter((s) => !s.startsWith("{")).pop() || "");
  if (call.words.has(word)) best = 20;
  else if (call.placeholders.has(word)) best = 12;
  if (last === word) best = 34;
  else if (last.split(" ").includes(word)) best = Math.max(best, 26);
  for (const part of call.words) if (best < 10 && part.startsWith(word)) best = 10;
  const prefix = word.replace(/\d+$/, "");
  for (let i = 0; i < call.foldedNames.length; i++) {
    const name = call.foldedNames[i];
    const isIndexed = call.names[i].endsWith("[n]");
    if (name === word || (isIndexed && prefix !== word && name === prefix)) best = Math.max(best, 17);
    else if (isIndexed && name === word) best = Math.max(best, 16);
    else if (name.split(" ").includes(word)) best = Math.max(best, 8);
  }
  // A privilege that every such call needs comes before one among others, or one that only some cases need.
  if (raw.includes(".") && call.privilegeText.includes("`" + raw.toLowerCase() + "`")) {
    best = Math.max(best, call.mainPrivilege.includes("`" + raw.toLowerCase() + "`") ? 32 - Math.min(6, call.mainPrivilege.length / 30) : 24);
  }
  // A word of another name for the call, such as `hibernate vm`.
  if (best < 15 && call.aliasWords.has(word)) best = 15;
  if (call.summaryWords.includes(stem(word))) best = Math.max(best, 14);
  else if (call.summaryWords.some((w) => w.startsWith(word))) best = Math.max(best, 7);
  return best;
}

function score(call, query) {
  const wanted = asPath(query);
  if (wanted) return pathScore(call, wanted);
  // The most asked for before all else, calls that do something before lists, short paths before long ones.
  const above = Object.keys(catalog.ranks).find((path) => call.path.startsWith(path));
  const order = (catalog.ranks[above] || 0) + (call.verb === "GET" ? 0.25 : 0) - call.segments.length / 2;
  let sum = 0;
  const folded = fold(query);
  const plain = telling(query);
  if (call.aliases.includes(folded) || (plain && call.plainAliases.includes(plain))) return 200 + order;
  // A name with a hyphen, such as `import-from`, is one thing.
  if (folded.includes(" ") && call.foldedNames.includes(folded)) return 60 - call.segments.length;
  const words = query.split(/\s+/).filter((raw) => fold(raw));
  const wordsThatTell = words.filter((raw) => !fillers.has(fold(raw)));
  for (const raw of wordsThatTell.length ? wordsThatTell : words) {
    const word = fold(raw);
    let best = 0;
    for (const part of raw.includes(".") ? [word] : word.split(" ")) {
      let here = wordScore(call, part, raw);
      for (const other of synonyms[part] || []) here = Math.max(here, wordScore(call, other, other) - 2);
      best = best ? Math.min(best, here) : here;
    }
    if (!best) return 0;
    sum += best;
  }
  return sum + order;
}

function search(query, release, area) {
  const found = [];
  for (const call of calls) {
    if (release !== "" && !call.releases.includes(Number(release))) continue;
    if (area && call.area !== area) continue;
    const points = query.trim() ? score(call, query) : 1;
    if (points > 0) found.push([points, call]);
  }
  found.sort((a, b) => b[0] - a[0] || a[1].index - b[1].index);
  return found.map((entry) => entry[1]);
}

const escape = (s) => s.replace(/[&<>"]/g, (c) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" })[c]);
// On a narrow screen a path breaks before its slashes.
const broken = (path) => escape(path).replace(/(?!^)\//g, "<wbr>/");
const marked = (s) => escape(s).replace(/`([^`]*)`/g, "<code>$1</code>");
const releasesOf = (list) => {
  const all = catalog.releases;
  if (!list.length || list.length === all.length) return "";
  const since = list[0] > 0 ? `since ${all[list[0]]}` : "";
  const until = list[list.length - 1] < all.length - 1 ? `until ${all[list[list.length - 1]]}` : "";
  return [since, until].filter(Boolean).join(", ");
};

let shown = [], selected = 0;
const LIMIT = 200;

function update() {
  const started = performance.now();
  shown = search($("query").value, $("release").value, $("area").value);
  document.body.dataset.searchMs = (performance.now() - started).toFixed(2);
  selected = 0;
  $("hits").innerHTML = shown
    .slice(0, LIMIT)
    .map((call, i) => `<li role="option" id="hit${i}" data-i="${i}"><span class="verb ${call.verb}">${call.verb}</span><code>${broken(call.path)}</code><small>${marked(call.summary)}</small></li>`)
    .join("");
  $("count").textContent = `${shown.length} of ${calls.length} calls`;
  select(0, false);
}

function select(i, focus) {
  if (!shown.length) {
    $("call").innerHTML = "<p class=dim>No call matches. Try a word of its path, a parameter, a privilege, or paste a URL.</p>";
    return;
  }
  selected = Math.max(0, Math.min(i, Math.min(shown.length, LIMIT) - 1));
  for (const hit of $("hits").children) hit.setAttribute("aria-selected", String(Number(hit.dataset.i) === selected));
  const hit = $(`hit${selected}`);
  $("hits").setAttribute("aria-activedescendant", hit.id);
  if (focus) hit.scrollIntoView({ block: "nearest" });
  show(shown[selected]);
}

function curl(call) {
  const path = call.path.replace(/\{([^}]+)\}/g, (_, name) => name.toUpperCase());
  const required = call.parameters.filter((p) => p.required && !p.in_path);
  const data = required.map((p) => ` \\\n  --data-urlencode '${p.name}=…'`).join("");
  const inQuery = (call.verb === "GET" || call.verb === "DELETE") && data ? "--get " : "";
  const verb = call.verb === "GET" ? "" : `--request ${call.verb} `;
  const { name, port, credentials } = catalog.product;
  return `curl --cacert ${name}-root-ca.pem ${credentials} \\\n  ${verb}${inQuery}'https://${name}1:${port}/api2/json${path}'${data}`;
}

// A paragraph, or a list of cases, which is folded where it is long.
function rule(text) {
  if (!text.startsWith("* ")) return `<p>${marked(text)}</p>`;
  const cases = text.split("\n").map((line) => `<li>${marked(line.replace(/^\* /, ""))}</li>`);
  const list = `<ul>${cases.join("")}</ul>`;
  return cases.length > 4 ? `<details><summary>${cases.length} cases</summary>${list}</details>` : list;
}

function show(call) {
  const rows = call.parameters
    .map((p) => {
      const since = releasesOf(p.releases || []);
      const values = p.values && p.values.length ? `<br><span class=dim>${p.values.slice(0, 40).map((v) => `<code>${escape(v)}</code>`).join(" ")}${p.values.length > 40 ? " …" : ""}</span>` : "";
      return `<tr><td><code>${escape(p.name)}</code>${p.required ? " <b title=required>*</b>" : ""}<br><span class=dim>${escape(p.ty)}${p.in_path ? ", in the path" : ""}</span></td><td>${marked(p.about)}${since && !p.about.includes("ince ") ? ` <span class=dim>(${since})</span>` : ""}${values}</td></tr>`;
    })
    .join("");
  const page = docs ? `${docs}/${catalog.product.name}/${call.area}/${call.page}` : "";
  const answer = docs && call.answer_type ? `${docs}/${catalog.product.name}/${call.answer_type[0]}/${call.answer_type[1]}.html` : "";
  const since = releasesOf(call.releases) || `${catalog.releases[0]} to ${catalog.releases[catalog.releases.length - 1]}`;
  $("call").innerHTML = `
<h2><span class="verb ${call.verb}">${call.verb}</span> ${broken(call.path)}</h2>
<p>${marked(call.summary)}</p>
<p class=dim>${since}${call.task ? " · runs as a task" : ""}${call.token ? "" : " · not with an API token"}</p>
<h3>Rust</h3><pre>${escape(call.rust)}</pre>
<h3>curl</h3><pre>${escape(curl(call))}</pre>
<h3>Answer</h3><p>${answer ? `<a href="${answer}">${escape(call.answer)}</a>` : escape(call.answer)}${page ? ` · <a href="${page}">${call.request || "this call"} in rustdoc</a>` : ""}</p>
<h3>Privileges and rules</h3>${call.privileges.filter((text) => text !== "Runs as a task.").map(rule).join("")}
<h3>Parameters</h3>${rows ? `<table><tbody>${rows}</tbody></table>` : "<p class=dim>None.</p>"}`;
  const hash = "#" + encodeURIComponent(call.id);
  if (location.hash !== hash) history.replaceState(null, "", hash);
}

function follow() {
  const id = decodeURIComponent(location.hash.slice(1));
  const call = calls.find((c) => c.id === id);
  if (!call) return false;
  $("query").value = id;
  update();
  select(shown.findIndex((c) => c.id === id), true);
  return true;
}

$("release").innerHTML = `<option value="">all releases</option>` + catalog.releases.map((r, i) => `<option value="${i}">${r}</option>`).reverse().join("");
$("area").innerHTML = `<option value="">all areas</option>` + catalog.areas.map((a) => `<option title="${escape(a[1])}">${a[0]}</option>`).join("");
for (const id of ["query", "release", "area"]) $(id).addEventListener("input", update);
$("hits").addEventListener("click", (event) => {
  const hit = event.target.closest("li");
  if (hit) select(Number(hit.dataset.i), false);
});
document.addEventListener("keydown", (event) => {
  const field = event.target === $("query") || event.target === $("hits");
  if (event.key === "ArrowDown" && field) select(selected + 1, true);
  else if (event.key === "ArrowUp" && field) select(selected - 1, true);
  else if (event.key === "Enter" && field) $("call").focus();
  else if ((event.key === "/" || event.key === "Escape") && event.target !== $("query")) $("query").focus();
  else return;
  event.preventDefault();
});
window.addEventListener("hashchange", follow);
if (!follow()) update();
