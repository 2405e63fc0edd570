// The AI SDK, which checks every chunk against a schema.
import assert from "node:assert/strict";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { generateText, streamText } from "ai";

const provider = createOpenAICompatible({
  name: "tidemill", baseURL: process.argv[2] + "/v1", includeUsage: true,
});
const model = provider.chatModel("script");

const whole = await generateText({ model, prompt: "unicode" });
assert.equal(whole.text, "é😀 ende");
assert.equal(whole.finishReason, "stop");
assert.ok(whole.usage.outputTokens > 0);

const errors = [];
const stream = streamText({
  model, prompt: "unicode", maxRetries: 0, onError: ({ error }) => errors.push(error),
});
let text = "";
for await (const part of stream.fullStream) {
  if (part.type === "text-delta") text += part.text;
}
assert.deepEqual(errors, []);
assert.equal(text, "é😀 ende");
assert.equal(await stream.finishReason, "stop");
assert.deepEqual((await stream.usage).outputTokens, whole.usage.outputTokens);

const completion = await generateText({
  model: provider.completionModel("script"), prompt: "hello", maxOutputTokens: 5,
});
assert.equal(completion.text, "Hello");
assert.equal(completion.finishReason, "length");

await assert.rejects(
  generateText({ model, prompt: "x", temperature: 3, maxRetries: 0 }),
  (error) => error.statusCode === 400 && error.message.includes("temperature"));
const left = new AbortController();
const slow = streamText({ model, prompt: "slow", abortSignal: left.signal, onError: () => {} });
for await (const piece of slow.textStream) {
  assert.ok(piece.length > 0);
  left.abort();
  break;
}
