// OpenAI's SDK in a page of a real browser, whose origin is another one than the server's: what the module for Node
// does is done there. The page and the packages come from a small server of files; names are resolved in the browser.
import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { extname, join } from "node:path";
import chromium from "@sparticuz/chromium";
import puppeteer from "puppeteer-core";

const here = import.meta.dirname;
const types = { ".html": "text/html", ".mjs": "text/javascript", ".js": "text/javascript" };

const files = createServer(async ({ url }, response) => {
  try {
    const path = join(here, new URL(url, "http://files").pathname);
    response.setHeader("Content-Type", types[extname(path)] ?? "text/plain");
    response.end(await readFile(path));
  } catch {
    response.writeHead(404).end();
  }
});
await new Promise((ready) => files.listen(0, "127.0.0.1", ready));

const browser = await puppeteer.launch({
  executablePath: await chromium.executablePath(),
  headless: "shell",
  args: [
    // None of the package's own arguments: they switch off what keeps origins apart. Root has no sandbox.
    "--no-sandbox",
    "--disable-gpu",
    // Every name is the server of files, under port 80; no name leads away from here.
    `--host-resolver-rules=MAP *.localhost:80 127.0.0.1:${files.address().port}, MAP * ~NOTFOUND, EXCLUDE 127.0.0.1`,
  ],
});
export const close = async () => {
  await browser.close();
  files.close();
};

const pages = new Map();

async function opened(origin) {
  if (!pages.has(origin)) {
    const page = await browser.newPage();
    await page.exposeFunction("callTool", (call) => page.tool(call));
    await page.goto(`${origin}/page.html`);
    pages.set(origin, page);
  }
  return pages.get(origin);
}

const inPage = (action) => async (request, tool) => {
  const page = await opened(request.server.origin);
  page.tool = tool;
  const { value, error } = await page.evaluate((action, request) => window.act(action, request), action, request);
  if (!error) return value;
  throw Object.assign(new Error(error.message), error);
};

export const ask = inPage("ask");
export const stream = inPage("stream");
export const use_tool = inPage("use_tool");
export const use_tool_streaming = inPage("use_tool_streaming");
export const structured = inPage("structured");
export const refusal = inPage("refusal");
export const abort = inPage("abort");
export const models = inPage("models");
export const version = async () => await browser.version();
