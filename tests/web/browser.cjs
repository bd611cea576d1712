// Drives the app in Chromium: node browser.cjs LINK PICTURE. One word a line for each thing that was seen to work.
const { chromium } = require("playwright-core");
const http = require("http");

const [link, picture] = process.argv.slice(2);
const origin = new URL(link).origin;
const path = process.env.CHROMIUM || "/usr/bin/chromium";

// The screen is a canvas: what stands on it is read from xterm.js' own rows, which screen text goes through on the wire.
async function main() {
  const browser = await chromium.launch({ executablePath: path, args: ["--no-sandbox"] });
  const context = await browser.newContext({ viewport: { width: 1100, height: 700 } });
  await context.grantPermissions(["clipboard-read", "clipboard-write"], { origin });
  const page = await context.newPage();
  const outside = [];
  context.on("request", (request) => {
    const url = request.url();
    if (!url.startsWith(origin) && !url.startsWith("data:") && !url.startsWith(origin.replace("http", "ws"))) outside.push(url);
  });
  let seen = "";
  page.on("websocket", (socket) => {
    socket.on("framereceived", (frame) => { seen += frame.payload.toString("utf8"); });
  });
  const until = async (what, test) => {
    for (let times = 0; times < 600; times++) {
      if (await test()) return;
      await page.waitForTimeout(50);
    }
    await page.screenshot({ path: picture });
    throw new Error(`waited in vain for ${what}; last seen: ${JSON.stringify(seen.slice(-1500))}`);
  };
  await page.goto(link);
  await until("the first screen", () => seen.includes("first") && seen.includes("Pipeline"));
  if (page.url().includes("token")) throw new Error("the token stayed in the address");
  console.log("open");

  seen = "";
  await page.keyboard.press("2"); // without a click before: keys go to the app at once
  await until("the Runs screen", () => /no run|No run|Runs/.test(seen));
  console.log("typed");

  seen = "";
  const box = await page.locator(".xterm-screen").boundingBox();
  await page.mouse.click(box.x + box.width * 0.12, box.y + 8); // "1 Pipeline" in the header
  await until("the Pipeline screen", () => seen.includes("first"));
  console.log("clicked");

  await page.keyboard.press("y");
  await until("the clipboard", async () => (await page.evaluate(() => navigator.clipboard.readText())).includes("first"));
  console.log("copied");
  await page.screenshot({ path: picture });

  const evil = http.createServer((_, answer) => { answer.setHeader("Content-Type", "text/html"); answer.end("<p>evil</p>"); });
  await new Promise((done) => evil.listen(0, "127.0.0.1", done));
  const other = await context.newPage();
  await other.goto(`http://127.0.0.1:${evil.address().port}/`);
  const tried = await other.evaluate(async (origin) => {
    const socket = await new Promise((done) => {
      const made = new WebSocket(origin.replace("http", "ws") + "/ws");
      made.onopen = () => done("open");
      made.onerror = () => done("refused");
    });
    const fetched = await fetch(origin + "/", { credentials: "include" }).then((answer) => `read ${answer.status}`, () => "refused");
    const frame = document.createElement("iframe");
    frame.src = origin + "/";
    document.body.append(frame);
    await new Promise((done) => { frame.onload = done; setTimeout(done, 2000); });
    let framed = "refused";
    try { if (frame.contentDocument && frame.contentDocument.querySelector("#terminal")) framed = "framed"; } catch (error) { framed = "refused"; }
    return [socket, fetched, framed];
  }, origin);
  if (tried.join() !== "refused,refused,refused") throw new Error(`a foreign page got: ${tried}`);
  console.log("foreign page refused");
  evil.close();
  await other.close();

  const strangers = outside.filter((url) => !url.startsWith(`http://127.0.0.1:`) && !url.startsWith(`ws://127.0.0.1:`));
  if (strangers.length) throw new Error(`asked outside: ${strangers}`);
  console.log("0 requests outside");

  await page.keyboard.press("q");
  await until("the end", () => page.evaluate(() => document.body.classList.contains("-closed")));
  console.log("ended");
  await browser.close();
}

main().catch((error) => { console.log(String(error.stack || error)); process.exit(1); });
