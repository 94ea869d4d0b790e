// Asks rustdoc's own search as people do, in a real browser: node rustdoc.mjs DOC-FOLDER [SCREENSHOT FOLDER]
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { fileURLToPath, pathToFileURL } from "node:url";

const [folder, pictures] = process.argv.slice(2);
const require = createRequire(pathToFileURL(process.env.PLAYWRIGHT + "/"));
const { chromium } = require("playwright-core");
const queries = JSON.parse(readFileSync(new URL("queries.json", import.meta.url)));
const least = JSON.parse(readFileSync(new URL("counts.json", import.meta.url)));
// A call is found if one of the first hits is its page or the method that makes it (a direct hit), or if what stands with
// a hit leads there: a type names the calls that give and take it, a step of a path the calls of that path.
const index = readFileSync(`${folder}/proxmox_api/pve/index/index.html`, "utf8");
const pages = new Map();
for (const [, href, call] of index.matchAll(/<a href="\.\.\/([^"]+)"[^>]*><code>([A-Z]+ [^<]+)<\/code><\/a>/g)) pages.set(call, href);

const DIRECT = 2, LED = 1, LOST = 0;

function rate(hit, call) {
  const page = pages.get(call);
  if (!page) throw new Error(`${call} is not in the index`);
  const own = page.split("/").pop();
  if (hit.endsWith(`/pve/${page}`) || hit.includes(`/pve/${page}#`)) return DIRECT;
  const [file, anchor] = hit.split("#");
  const html = readFileSync(fileURLToPath(file), "utf8");
  const from = anchor ? html.indexOf(`id="${anchor}"`) : html.indexOf("top-doc");
  const text = html.slice(from, anchor ? html.indexOf('<section id="', from + 20) : html.indexOf("</details>", from));
  const of = (kind) => call.replace(/^(\S+ \/nodes\/\{node\}\/)(qemu|lxc)/, `$1${kind}`);
  const linked = [`/${own}"`, `"${own}"`].some((link) => text.includes(link));
  return linked || [call, of("{qemu|lxc}")].some((name) => text.includes(`<code>${name}</code>`)) ? LED : LOST;
}

const flags = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync", "--allow-file-access-from-files"];
const browser = await chromium.launch({ executablePath: "/usr/bin/chromium", args: flags });
const found = [0, 0, 0];
try {
  const tab = await browser.newPage({ viewport: { width: 1280, height: 800 } });
  const start = pathToFileURL(`${folder}/proxmox_api/index.html`).href;
  for (const [query, wanted, where] of queries) {
    if (!wanted || where === "explorer") continue;
    // Beside the crate the folder may hold others of the workspace, which no reader of its documentation has.
    await tab.goto(`${start}?search=${encodeURIComponent(query)}&filter-crate=proxmox_api`);
    await tab.waitForFunction(() => document.querySelector(".search-results a, .search-failed, #search h3.error"), null, { timeout: 30000 });
    // Results come one after the other.
    await tab.waitForFunction(() => document.querySelectorAll(".search-results.active a").length > 2 || !document.querySelector("#search .count.loading"), null, { timeout: 30000 }).catch(() => {});
    const hits = await tab.$$eval(".search-results.active a", (links) => links.slice(0, 3).map((link) => link.href));
    const wished = [wanted].flat();
    const best = Math.max(LOST, ...hits.flatMap((hit) => wished.map((call) => rate(hit, call))));
    found[best]++;
    if (process.env.LED && best === LED) console.log(`led to for "${query}": ${wanted}`);
    if (best === LOST) {
      console.log(`not among the first three for "${query}": ${wanted}; first: ${hits.map((hit) => hit.replace(/.*proxmox_api\//, "")).join(" | ")}`);
    }
  }
  if (pictures) {
    await tab.goto(`${start}?search=${encodeURIComponent("create vm")}`);
    await tab.waitForSelector(".search-results a");
    await tab.screenshot({ path: `${pictures}/rustdoc-search.png` });
    await tab.goto(pathToFileURL(`${folder}/proxmox_api/pve/${pages.get("POST /nodes/{node}/qemu")}`).href);
    await tab.screenshot({ path: `${pictures}/rustdoc-request.png` });
    await tab.goto(pathToFileURL(`${folder}/proxmox_api/pve/index/index.html`).href);
    await tab.screenshot({ path: `${pictures}/rustdoc-index.png` });
  }
} finally {
  await browser.close();
}
const asked = found[DIRECT] + found[LED] + found[LOST];
console.log(`rustdoc: ${asked - found[LOST]} of ${asked} queries found their call among the first three, ${found[DIRECT]} of them itself, ${found[LED]} by a link`);
if (found[DIRECT] < least.direct) console.log(`fewer than the ${least.direct} direct hits of counts.json`);
process.exit(found[LOST] || found[DIRECT] < least.direct ? 1 : 0);
