// Vercel's AI SDK, with its provider for Anthropic's protocol.
import { createAnthropic } from "@ai-sdk/anthropic";
import { all } from "./ai_sdk_actions.mjs";

export const { ask, stream, use_tool, use_tool_streaming, structured, refusal, abort } = all(
  ({ base_url, key, model }) => createAnthropic({ baseURL: base_url, apiKey: key })(model),
);
