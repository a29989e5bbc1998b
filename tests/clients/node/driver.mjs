// What Python drives: reads one request a line, {client, action, server, prompt}, and writes one answer a line.
// On the way it may write {"call": arguments of the tool}, to which the next line read is the result.
import { createInterface } from "node:readline";
import { described } from "./errors.mjs";
import { elsewhere } from "./network.mjs";

const clients = {
  openai: () => import("./openai_chat.mjs"),
  responses: () => import("./openai_responses.mjs"),
  ai: () => import("./ai_sdk.mjs"),
  langchain: () => import("./langchain.mjs"),
  anthropic: () => import("./anthropic.mjs"),
  ai_anthropic: () => import("./ai_sdk_anthropic.mjs"),
  browser: () => import("./browser.mjs"),
};

// Standard output is for answers alone; whatever a client prints is a message.
console.log = console.info = console.debug = console.error;
const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const read = async () => {
  const { value, done } = await lines.next();
  return done ? null : JSON.parse(value);
};
const write = (answer) => process.stdout.write(JSON.stringify(answer) + "\n");

// The tool of a test is a function of Python.
const tool = async (call) => {
  write({ call });
  return (await read()).result;
};

const used = new Set();

for (let request = await read(); request; request = await read()) {
  try {
    const client = await clients[request.client]();
    used.add(client);
    const value = await client[request.action](request, tool);
    write({ value: value ?? null, elsewhere });
  } catch (error) {
    console.error(error.stack);
    write({ error: described(error), elsewhere });
  }
}
for (const client of used) await client.close?.();
process.exit(0);
