// Vercel's AI SDK, with its provider for servers that speak OpenAI's protocol.
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { all } from "./ai_sdk_actions.mjs";

export const { ask, stream, use_tool, use_tool_streaming, structured, refusal, abort } = all(
  ({ base_url, key, model }) =>
    createOpenAICompatible({
      name: "stars-guard",
      baseURL: base_url,
      apiKey: key,
      includeUsage: true,
      supportsStructuredOutputs: true,
    })(model),
);
