// The OpenAI library for JavaScript.
import assert from "node:assert/strict";
import OpenAI from "openai";

const client = new OpenAI({ baseURL: process.argv[2] + "/v1", apiKey: "none", maxRetries: 0 });
const messages = [{ role: "user", content: "unicode" }];

const chat = await client.chat.completions.create({ model: "script", messages });
assert.equal(chat.choices[0].message.content, "é😀 ende");
assert.equal(chat.choices[0].finish_reason, "stop");
assert.equal(chat.usage.total_tokens, chat.usage.prompt_tokens + chat.usage.completion_tokens);

let text = "";
let usage = null;
const stream = await client.chat.completions.create({
  model: "script", messages, stream: true, stream_options: { include_usage: true },
});
for await (const chunk of stream) {
  text += chunk.choices[0]?.delta?.content ?? "";
  usage = chunk.usage ?? usage;
}
assert.equal(text, "é😀 ende");
assert.deepEqual(usage, chat.usage);

const runner = client.chat.completions.stream({ model: "script", messages });
assert.equal((await runner.finalChatCompletion()).choices[0].message.content, "é😀 ende");

const completion = await client.completions.create({
  model: "script", prompt: ["hello 1", "hello 2"], n: 2, max_tokens: 5,
});
assert.deepEqual(completion.choices.map((c) => [c.index, c.text]),
  [[0, "Hello"], [1, "Hello"], [2, "Hello"], [3, "Hello"]]);

const models = [];
for await (const model of client.models.list()) models.push(model.id);
assert.deepEqual(models, ["script"]);
assert.equal((await client.models.retrieve("script")).id, "script");

await assert.rejects(client.models.retrieve("nobody"), OpenAI.NotFoundError);
await assert.rejects(
  client.chat.completions.create({ model: "script", messages, temperature: 3 }),
  (error) => error instanceof OpenAI.BadRequestError && error.param === "temperature");
await assert.rejects(
  client.completions.create({ model: "script", prompt: "broken" }),
  (error) => error instanceof OpenAI.InternalServerError && error.code === "numerical_error");

// A reader that leaves in the middle.
const left = await client.completions.create({
  model: "script", prompt: "slow", max_tokens: 1000, stream: true,
});
for await (const chunk of left) {
  assert.ok(chunk.choices[0].text.length > 0);
  break;
}
