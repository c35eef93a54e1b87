// Opens the page of a running esmm-serve in Chromium: node check_service.mjs URL PAGE.html [TOKEN]
//
// One line a problem on stdout, exit code 1 when there is any. At the width of a desktop and of a phone, light and dark: nothing
// may be said on the console, asked of anybody but the service, or wider than the window; the form ranks, in the order that was
// asked for; a wrong request says what is wrong; with TOKEN nothing is shown before it is typed. PAGE.html, the page as a file,
// goes through the HTML validator. CHROMIUM names the browser, SCREENSHOTS a folder for pictures.

import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { HtmlValidate } from "html-validate";
import { chromium } from "playwright-core";

const FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"];
const QUIET = ["--disable-background-networking", "--disable-component-update", "--disable-sync"];
const [url, file, token] = process.argv.slice(2);
const problems = [];

async function validate() {
  const here = dirname(fileURLToPath(import.meta.url));
  const config = JSON.parse(readFileSync(join(here, ".htmlvalidate.json"), "utf8"));
  const report = await new HtmlValidate(config).validateString(readFileSync(file, "utf8"), file);
  for (const { messages } of report.results)
    for (const { line, column, ruleId, message } of messages)
      problems.push(`${basename(file)}:${line}:${column}: ${ruleId}: ${message}`);
}

async function open(browser, width, colorScheme) {
  const say = (problem) => problems.push(`${width}, ${colorScheme}: ${problem}`);
  const page = await browser.newPage({ viewport: { width, height: 900 }, colorScheme });
  const refused = [];
  page.on("console", (message) => {
    // The browser says so of every refused request.
    if (/status of 40[01]/.test(message.text())) refused.push(message.text());
    else say(`console: ${message.text()}`);
  });
  page.on("pageerror", (error) => say(`error: ${error.message}`));
  page.on("request", (request) => {
    if (!request.url().startsWith(url)) say(`asks for ${request.url()}`);
  });
  const rows = () => page.locator("#answer tbody tr");
  const column = async (place) => (await rows().locator(`td:nth-child(${place})`).allTextContents()).map(Number);
  await page.goto(url);
  if (token) {
    await page.waitForSelector("#guard[open]");
    if ((await rows().count()) !== 0) say("rows without a token");
    await page.fill("#token", token);
    await page.click("#unlock button");
  }
  await page.waitForSelector("#answer tbody tr");
  const names = await page.locator("#answer thead th").allTextContents();
  for (const by of ["pctr", "pcvr", "pctcvr"]) {
    await page.selectOption("#by", by);
    await page.fill("#top", "5");
    const answered = page.waitForResponse((response) => response.url().endsWith("/v1/rank"));
    await page.click("#ask button");
    await answered;
    await page.waitForFunction(() => document.querySelectorAll("#answer tbody tr").length === 5);
    const scores = await column(names.indexOf(by) + 1);
    if (!scores.every((score, place) => score >= 0 && score <= 1 && (place === 0 || score <= scores[place - 1])))
      say(`${by}: ${scores}`);
  }
  if (process.env.SCREENSHOTS)
    await page.screenshot({ path: join(process.env.SCREENSHOTS, `service-${width}-${colorScheme}.png`), fullPage: true });
  const wide = await page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
  if (wide > 0) say(`${wide} pixels wider than the window`);
  if ((await page.locator("#metrics, #no-metrics").filter({ visible: true }).count()) !== 1) say("neither metrics nor why not");
  const before = refused.length;
  await page.fill("#user input[placeholder='a number'] >> nth=0", "old");
  await page.click("#ask button");
  await page.waitForFunction(() => document.getElementById("failure").textContent.includes("old"));
  if (refused.length !== before + 1) say("a wrong request was not refused");
  await page.context().close();
}

const profile = mkdtempSync(join(tmpdir(), "esmm-serve-"));
const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  args: [...FLAGS, ...QUIET, `--crash-dumps-dir=${profile}`],
});
await validate();
for (const width of [1280, 390]) for (const scheme of ["light", "dark"]) await open(browser, width, scheme);
await browser.close();
rmSync(profile, { recursive: true, force: true });
problems.forEach((problem) => console.log(problem));
process.exit(problems.length > 0 ? 1 : 0);
