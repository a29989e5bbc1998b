// LangChain.js: ChatOpenAI, and createAgent upon it.
import { ChatOpenAI } from "@langchain/openai";
import { createAgent, tool } from "langchain";
import { z } from "zod";

const facts = z.object({ name: z.string(), population: z.number().int() });
const model = ({ server }) =>
  new ChatOpenAI({ model: server.model, apiKey: server.key, configuration: { baseURL: server.base_url } });

export const ask = async (request) => (await model(request).invoke(request.prompt)).text;

export const stream = async (request) =>
  await Array.fromAsync(await model(request).stream(request.prompt), (chunk) => chunk.text);

function agent(request, weather) {
  const measure = tool((call) => weather(call), {
    name: "weather",
    description: "Measures the weather.",
    schema: z.object({ city: z.string() }),
  });
  return createAgent({ model: model(request), tools: [measure] });
}

const messages = ({ prompt }) => ({ messages: [{ role: "user", content: prompt }] });

export const use_tool = async (request, weather) =>
  (await agent(request, weather).invoke(messages(request))).messages.at(-1).text;

export async function use_tool_streaming(request, weather) {
  const pieces = [];
  const events = await agent(request, weather).stream(messages(request), { streamMode: "messages" });
  for await (const [chunk, { langgraph_node }] of events) if (langgraph_node !== "tools") pieces.push(chunk.text);
  return pieces.join("");
}

export const structured = async (request) =>
  await model(request).withStructuredOutput(facts, { name: "facts" }).invoke(request.prompt);

export async function refusal(request) {
  const message = await model(request).invoke(request.prompt);
  return { text: message.text, reason: message.response_metadata.finish_reason };
}

export async function abort(request) {
  const controller = new AbortController();
  for await (const chunk of await model(request).stream(request.prompt, { signal: controller.signal })) {
    if (!chunk.text) continue;
    controller.abort();
    return chunk.text;
  }
}
