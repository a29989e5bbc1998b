// OpenAI's SDK, chat completions; in Node and in a browser.
import OpenAI from "openai";

const client = ({ server }) =>
  new OpenAI({ baseURL: server.base_url, apiKey: server.key, dangerouslyAllowBrowser: true });
const asked = ({ server, prompt }) => ({ model: server.model, messages: [{ role: "user", content: prompt }] });
const parameters = (properties) => ({
  type: "object",
  properties,
  required: Object.keys(properties),
  additionalProperties: false,
});
const city = parameters({ city: { type: "string" } });
const facts = parameters({ name: { type: "string" }, population: { type: "integer" } });
const piece = (chunk) => chunk.choices[0]?.delta?.content ?? "";

export async function ask(request) {
  const done = await client(request).chat.completions.create(asked(request));
  return done.choices[0].message.content;
}

export async function stream(request) {
  const pieces = [];
  for await (const chunk of await client(request).chat.completions.create({ ...asked(request), stream: true }))
    pieces.push(piece(chunk));
  return pieces;
}

export async function use_tool(request, weather) {
  const runner = client(request).chat.completions.runTools({
    ...asked(request),
    tools: [
      {
        type: "function",
        function: { name: "weather", parameters: city, parse: JSON.parse, function: (call) => weather(call) },
      },
    ],
  });
  return await runner.finalContent();
}

export async function use_tool_streaming(request, weather) {
  const runner = client(request).chat.completions.runTools({
    ...asked(request),
    stream: true,
    tools: [
      {
        type: "function",
        function: { name: "weather", parameters: city, parse: JSON.parse, function: (call) => weather(call) },
      },
    ],
  });
  return await runner.finalContent();
}

export async function structured(request) {
  const done = await client(request).chat.completions.parse({
    ...asked(request),
    response_format: { type: "json_schema", json_schema: { name: "facts", strict: true, schema: facts } },
  });
  return JSON.parse(done.choices[0].message.content);
}

export async function refusal(request) {
  const [choice] = (await client(request).chat.completions.create(asked(request))).choices;
  return { text: choice.message.content, reason: choice.finish_reason };
}

export async function abort(request) {
  const chunks = await client(request).chat.completions.create({ ...asked(request), stream: true });
  for await (const chunk of chunks) {
    if (!piece(chunk)) continue;
    chunks.controller.abort();
    return piece(chunk);
  }
}

export async function models(request) {
  const ids = [];
  for await (const model of client(request).models.list()) ids.push(model.id);
  return ids;
}
