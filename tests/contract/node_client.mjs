// The official JavaScript client against a running server: `node node_client.mjs BASE_URL KEY MODEL TRAINING_FILE`.
// Prints one JSON object; the test reads it.
import fs from "node:fs";
import OpenAI from "openai";

const [baseURL, apiKey, model, path] = process.argv.slice(2);
const client = new OpenAI({ baseURL, apiKey, maxRetries: 0 });

async function refusal(promise) {
  try {
    await promise;
  } catch (error) {
    const { status, message, param, code, requestID } = error;
    return { class: error.constructor.name, status, message, param, code, requestID };
  }
  throw new Error("nothing was refused");
}

const file = await client.files.create({ file: fs.createReadStream(path), purpose: "fine-tune" });
const ready = await client.files.waitForProcessing(file.id);
const content = Buffer.from(await (await client.files.content(file.id)).arrayBuffer());

const job = await client.fineTuning.jobs.create({ model: "gpt-4o-mini", training_file: file.id, suffix: "node" });
const events = [];
for await (const event of client.fineTuning.jobs.listEvents(job.id, { limit: 1 })) events.push(event.message);
const cancelled = await client.fineTuning.jobs.cancel(job.id);

const question = { model, messages: [{ role: "user", content: "How is the weather in Rome?" }], temperature: 0, max_tokens: 8 };
const plain = await client.chat.completions.create(question);
let streamed = "";
for await (const chunk of await client.chat.completions.create({ ...question, stream: true })) {
  streamed += chunk.choices[0]?.delta?.content ?? "";
}
const names = [];
for await (const entry of client.models.list()) names.push(entry.id);

console.log(
  JSON.stringify({
    file: ready,
    same: content.equals(fs.readFileSync(path)),
    job,
    events,
    cancelled: cancelled.status,
    plain: plain.choices[0].message.content,
    streamed,
    names,
    missing: await refusal(client.models.retrieve("ft:no/such:model")),
    refused: await refusal(client.fineTuning.jobs.create({ model: "gpt-4o-mini", training_file: file.id, suffix: "" })),
    deleted: await client.files.delete(file.id),
  }),
);
