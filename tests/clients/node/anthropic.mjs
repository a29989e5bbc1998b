// Anthropic's SDK.
import Anthropic from "@anthropic-ai/sdk";
import { zodOutputFormat } from "@anthropic-ai/sdk/helpers/zod";
import { betaZodTool } from "@anthropic-ai/sdk/helpers/beta/zod";
import { z } from "zod";

const facts = z.object({ name: z.string(), population: z.number().int() });
const client = ({ server }) => new Anthropic({ baseURL: server.base_url.replace(/\/v1$/, ""), apiKey: server.key });
const asked = ({ server, prompt }) => ({
  model: server.model,
  max_tokens: 20_000,
  messages: [{ role: "user", content: prompt }],
});
const text = ({ content }) => content.map((block) => block.text ?? "").join("");
const delta = ({ type, delta }) => (type === "content_block_delta" ? (delta.text ?? "") : "");

export const ask = async (request) => text(await client(request).messages.create(asked(request)));

export async function stream(request) {
  const pieces = [];
  const stream = client(request).messages.stream(asked(request));
  stream.on("text", (piece) => pieces.push(piece));
  await stream.finalMessage();
  return pieces;
}

function runner(request, weather, rest) {
  const measure = betaZodTool({
    name: "weather",
    description: "Measures the weather.",
    inputSchema: z.object({ city: z.string() }),
    run: (call) => weather(call),
  });
  return client(request).beta.messages.toolRunner({ ...asked(request), tools: [measure], ...rest });
}

export const use_tool = async (request, weather) => text(await runner(request, weather).runUntilDone());

export async function use_tool_streaming(request, weather) {
  let message;
  for await (const stream of runner(request, weather, { stream: true })) message = await stream.finalMessage();
  return text(message);
}

export async function structured(request) {
  const output_config = { format: zodOutputFormat(facts) };
  return (await client(request).messages.parse({ ...asked(request), output_config })).parsed_output;
}

export async function refusal(request) {
  const message = await client(request).messages.create(asked(request));
  return { text: text(message), reason: message.stop_reason };
}

export async function abort(request) {
  const events = await client(request).messages.create({ ...asked(request), stream: true });
  for await (const event of events) {
    if (!delta(event)) continue;
    events.controller.abort();
    return delta(event);
  }
}
