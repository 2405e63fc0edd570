// A strict parser of event streams, fed with the stream split at every byte.
import assert from "node:assert/strict";
import { createParser } from "eventsource-parser";

const url = process.argv[2];

function parse(pieces) {
  const events = [];
  const parser = createParser({
    onEvent: (event) => events.push(event),
    onError: (error) => { throw error; },
  });
  const decoder = new TextDecoder();
  for (const piece of pieces) parser.feed(decoder.decode(piece, { stream: true }));
  return events;
}

async function bytesOf(path, body) {
  const answer = await fetch(url + path, {
    method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body),
  });
  assert.equal(answer.status, 200);
  assert.equal(answer.headers.get("content-type"), "text/event-stream; charset=utf-8");
  return new Uint8Array(await answer.arrayBuffer());
}

for (const [path, body, textOf] of [
  ["/v1/completions", { prompt: "unicode", stream: true }, (c) => c.text],
  ["/v1/chat/completions", { messages: [{ role: "user", content: "unicode" }], stream: true },
    (c) => c.delta.content ?? ""],
]) {
  const bytes = await bytesOf(path, body);
  const events = parse([bytes]);
  assert.equal(events.at(-1).data, "[DONE]");
  const text = events.slice(0, -1).map((e) => JSON.parse(e.data).choices.map(textOf).join(""));
  assert.equal(text.join(""), "é😀 ende");
  for (const event of events) {
    assert.equal(event.event, undefined);
    assert.equal(event.id, undefined);
  }
  for (let cut = 1; cut < bytes.length; ++cut) {
    assert.deepEqual(parse([bytes.subarray(0, cut), bytes.subarray(cut)]), events);
  }
  assert.deepEqual(parse(Array.from(bytes, (_, i) => bytes.subarray(i, i + 1))), events);
}
