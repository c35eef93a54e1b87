// Opens pages in Chromium and validates their HTML: node check.mjs PAGE.html...
//
// One line a problem on stdout, exit code 1 when there is any. Every page is opened at the width of a desktop and of a
// phone, light and dark; nothing may be said on the console, asked of the network, or wider than the window. Every link of
// the contents must lead somewhere, every chart must have a size and a name, and the theme switch must switch.
// CHROMIUM names the browser, SCREENSHOTS a folder for pictures.

import { readFileSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, dirname, join, resolve } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { HtmlValidate } from "html-validate";
import { chromium } from "playwright-core";

const FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"];
const QUIET = ["--disable-background-networking", "--disable-component-update", "--disable-sync"];
const VIEWS = [
  { name: "desktop", width: 1280, colorScheme: "light" },
  { name: "desktop", width: 1280, colorScheme: "dark" },
  { name: "phone", width: 390, colorScheme: "light" },
  { name: "phone", width: 390, colorScheme: "dark" },
];

const problems = [];

async function validate(file) {
  const here = dirname(fileURLToPath(import.meta.url));
  const config = JSON.parse(readFileSync(join(here, ".htmlvalidate.json"), "utf8"));
  const report = await new HtmlValidate(config).validateString(readFileSync(file, "utf8"), file);
  for (const result of report.results) {
    for (const message of result.messages) {
      problems.push(`${basename(file)}:${message.line}:${message.column}: ${message.ruleId}: ${message.message}`);
    }
  }
}

function inspect() {
  const found = [];
  const { scrollWidth } = document.documentElement;
  if (scrollWidth > window.innerWidth) found.push(`the page is ${scrollWidth} wide, the window ${window.innerWidth}`);
  for (const link of document.querySelectorAll("nav a")) {
    if (!document.getElementById(link.hash.slice(1))) found.push(`${link.hash} leads nowhere`);
  }
  for (const chart of document.querySelectorAll("figure > svg")) {
    const { width, height } = chart.getBoundingClientRect();
    if (!chart.getAttribute("aria-label")) found.push("a chart has no name");
    if (width < 280 || height < 180) found.push(`a chart is ${width} by ${height}`);
    if (/NaN|undefined/.test(chart.outerHTML)) found.push(`not a number in ${chart.getAttribute("aria-label")}`);
  }
  return found;
}

async function ground(page) {
  return page.evaluate(() => getComputedStyle(document.body).backgroundColor);
}

async function open(browser, file, view) {
  const say = (problem) => problems.push(`${basename(file)}, ${view.name}, ${view.colorScheme}: ${problem}`);
  const context = await browser.newContext({
    viewport: { width: view.width, height: 900 },
    colorScheme: view.colorScheme,
  });
  const page = await context.newPage();
  page.on("console", (message) => say(`console: ${message.text()}`));
  page.on("pageerror", (error) => say(`error: ${error.message}`));
  page.on("request", (request) => {
    if (!request.url().startsWith("file:")) say(`asks the network for ${request.url()}`);
  });
  await page.goto(pathToFileURL(resolve(file)).href);
  (await page.evaluate(inspect)).forEach(say);
  if (process.env.SCREENSHOTS) {
    const name = `${basename(file, ".html")}-${view.name}-${view.colorScheme}.png`;
    await page.screenshot({ path: join(process.env.SCREENSHOTS, name), fullPage: true });
  }
  const before = await ground(page);
  await page.click("#theme");
  if ((await ground(page)) === before) say("the theme switch does not switch");
  await page.evaluate(() => document.querySelectorAll("details").forEach((element) => (element.open = true)));
  (await page.evaluate(inspect)).forEach((problem) => say(`all opened: ${problem}`));
  await context.close();
}

const files = process.argv.slice(2);
const profile = mkdtempSync(join(tmpdir(), "esmm-report-"));
const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  args: [...FLAGS, ...QUIET, `--crash-dumps-dir=${profile}`],
});
for (const file of files) {
  await validate(file);
  for (const view of VIEWS) await open(browser, file, view);
}
await browser.close();
rmSync(profile, { recursive: true, force: true });
problems.forEach((problem) => console.log(problem));
process.exit(problems.length > 0 || files.length === 0 ? 1 : 0);
