// OpenAI's SDK over its Responses API.
import OpenAI from "openai";
import { zodTextFormat } from "openai/helpers/zod";
import { z } from "zod";

const facts = z.object({ name: z.string(), population: z.number().int() });
const responses = ({ server }) => new OpenAI({ baseURL: server.base_url, apiKey: server.key }).responses;
const asked = ({ server, prompt }) => ({
  model: server.model,
  input: [{ role: "user", content: prompt }],
  store: false,
});
const tools = [
  {
    type: "function",
    name: "weather",
    strict: true,
    parameters: {
      type: "object",
      properties: { city: { type: "string" } },
      required: ["city"],
      additionalProperties: false,
    },
  },
];
const pieces = (events) =>
  events.filter(({ type }) => type === "response.output_text.delta").map(({ delta }) => delta);

export const ask = async (request) => (await responses(request).create(asked(request))).output_text;

export const stream = async (request) => pieces(await Array.fromAsync(responses(request).stream(asked(request))));

async function loop(request, weather, answered) {
  const body = { ...asked(request), tools };
  for (;;) {
    const response = await answered(body);
    const calls = response.output.filter(({ type }) => type === "function_call");
    if (!calls.length) return response.output_text;
    body.input.push(...response.output);
    for (const { call_id, arguments: text } of calls)
      body.input.push({ type: "function_call_output", call_id, output: await weather(JSON.parse(text)) });
  }
}

export const use_tool = (request, weather) => loop(request, weather, (body) => responses(request).create(body));

export const use_tool_streaming = (request, weather) =>
  loop(request, weather, (body) => responses(request).stream(body).finalResponse());

export async function structured(request) {
  const text = { format: zodTextFormat(facts, "facts") };
  return (await responses(request).parse({ ...asked(request), text })).output_parsed;
}

export async function refusal(request) {
  const [message] = (await responses(request).create(asked(request))).output;
  const [part] = message.content;
  return { text: part.refusal, reason: part.type };
}

export async function abort(request) {
  const events = await responses(request).create({ ...asked(request), stream: true });
  for await (const event of events) {
    if (event.type !== "response.output_text.delta") continue;
    events.controller.abort();
    return event.delta;
  }
}
