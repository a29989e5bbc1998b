// What Vercel's AI SDK does with a model, whichever its provider.
import { Output, generateText, isStepCount, streamText, tool } from "ai";
import { z } from "zod";

const facts = z.object({ name: z.string(), population: z.number().int() });

export function all(provided) {
  const asked = ({ server, prompt }) => ({ model: provided(server), prompt });
  const agent = (request, weather) => ({
    ...asked(request),
    tools: { weather: tool({ inputSchema: z.object({ city: z.string() }), execute: (call) => weather(call) }) },
    stopWhen: isStepCount(4),
  });
  return {
    ask: async (request) => (await generateText(asked(request))).text,
    stream: async (request) => await Array.fromAsync(streamText(asked(request)).textStream),
    use_tool: async (request, weather) => (await generateText(agent(request, weather))).text,
    use_tool_streaming: async (request, weather) => await streamText(agent(request, weather)).text,
    structured: async (request) =>
      (await generateText({ ...asked(request), output: Output.object({ schema: facts }) })).output,
    refusal: async (request) => {
      const { text, finishReason } = await generateText(asked(request));
      return { text, reason: finishReason };
    },
    abort: async (request) => {
      const controller = new AbortController();
      const { textStream } = streamText({ ...asked(request), abortSignal: controller.signal });
      for await (const piece of textStream) {
        controller.abort();
        return piece;
      }
    },
  };
}
