// Asks the explorer as people do, in a real browser: node test.mjs PAGE [SCREENSHOT FOLDER]
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const [page, pictures] = process.argv.slice(2);
const require = createRequire(pathToFileURL(process.env.PLAYWRIGHT + "/"));
const { chromium } = require("playwright-core");
const queries = JSON.parse(readFileSync(new URL("queries.json", import.meta.url)));

const flags = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"];
const browser = await chromium.launch({ executablePath: "/usr/bin/chromium", args: flags });
let failed = 0;
try {
  for (const colorScheme of ["light", "dark"]) {
    const context = await browser.newContext({ colorScheme, viewport: { width: 1280, height: 800 } });
    const tab = await context.newPage();
    const errors = [];
    tab.on("pageerror", (error) => errors.push(String(error)));
    const foreign = [];
    tab.on("request", (request) => /^(file|data|blob):/.test(request.url()) || foreign.push(request.url()));
    await tab.goto(pathToFileURL(page).href);
    if (pictures) await tab.screenshot({ path: `${pictures}/start-${colorScheme}.png` });

    if (colorScheme === "light") {
      // The first search, as somebody types it; the page measures it. The best of some, because other programs run here too.
      let waited = Infinity;
      for (let attempt = 0; attempt < 10 && waited >= 50; attempt++) {
        if (attempt > 0) await tab.goto(pathToFileURL(page).href);
        await tab.fill("#query", "clone");
        waited = Math.min(waited, Number(await tab.evaluate(() => document.body.dataset.searchMs)));
      }
      assert.ok(waited < 50, `the first search took ${waited} ms at best`);
      for (const [query, wanted] of queries) {
        await tab.fill("#query", query);
        const hits = await tab.$$eval("#hits li", (items) => items.slice(0, 3).map((item) => `${item.querySelector(".verb").textContent} ${item.querySelector("code").textContent}`));
        if (wanted ? ![wanted].flat().some((call) => hits.includes(call)) : hits.length === 0) {
          failed++;
          console.log(`not among the first three for "${query}": ${wanted}; first: ${hits.join(" | ")}`);
        }
      }
      // Only the keyboard: find, go down, open, come back.
      await tab.focus("#query");
      await tab.keyboard.press("Control+A");
      await tab.keyboard.type("clone");
      const first = await tab.textContent("#call h2");
      await tab.keyboard.press("ArrowDown");
      assert.notEqual(await tab.textContent("#call h2"), first);
      await tab.keyboard.press("Enter");
      assert.equal(await tab.evaluate(() => document.activeElement.id), "call");
      await tab.keyboard.press("Escape");
      assert.equal(await tab.evaluate(() => document.activeElement.id), "query");
      // An address leads to its call.
      const link = tab.url();
      const other = await context.newPage();
      await other.goto(link);
      assert.equal(await other.textContent("#call h2"), await tab.textContent("#call h2"));
      // A release that lacks a call does not show it.
      await tab.fill("#query", "GET /cluster/ha/rules");
      await tab.selectOption("#release", { label: "7.4" });
      assert.equal(await tab.locator("#hits li").count(), 0);
      assert.match(await tab.textContent("#call"), /No call matches/);
      await tab.selectOption("#release", { label: "9.2" });
      assert.notEqual(await tab.locator("#hits li").count(), 0);
    }
    await tab.fill("#query", "PUT config");
    if (pictures) await tab.screenshot({ path: `${pictures}/config-${colorScheme}.png` });
    assert.deepEqual(errors, []);
    assert.deepEqual(foreign, [], "nothing comes from another host");
    await context.close();
  }
} finally {
  await browser.close();
}
console.log(`${queries.length - failed} of ${queries.length} queries found their call among the first three`);
process.exit(failed ? 1 : 0);
