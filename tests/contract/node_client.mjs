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

const evaluation = await client.evals.create({
  data_source_config: { type: "custom", item_schema: { type: "object" } },
  testing_criteria: [
    { type: "string_check", name: "same", input: "{{sample.output_text}}", reference: "{{item.answer}}", operation: "eq" },
  ],
});
const renamed = await client.evals.update(evaluation.id, { name: "node" });
const rows = ["1", "2", "3"].map((answer) => ({ item: { answer }, sample: { output_text: "1" } }));
let run = await client.evals.runs.create(evaluation.id, {
  data_source: { type: "jsonl", source: { type: "file_content", content: rows } },
});
const ids = { eval_id: evaluation.id };
while (["queued", "in_progress"].includes(run.status)) run = await client.evals.runs.retrieve(run.id, ids);
const items = [];
for await (const item of client.evals.runs.outputItems.list(run.id, { ...ids, limit: 1 })) items.push(item);
const item = await client.evals.runs.outputItems.retrieve(items[0].id, { ...ids, run_id: run.id });
const listed = [];
for await (const one of client.evals.list({ order: "desc", order_by: "updated_at" })) listed.push(one.id);
const runs = [];
for await (const one of client.evals.runs.list(evaluation.id)) runs.push(one.id);
const long = await client.evals.runs.create(evaluation.id, {
  data_source: {
    type: "completions",
    model,
    source: { type: "file_content", content: Array.from({ length: 500 }, () => ({ item: { answer: "1" } })) },
    input_messages: { type: "template", template: [{ role: "user", content: "Count to {{item.answer}}000." }] },
    sampling_params: { max_completion_tokens: 50 },
  },
});
const evals = {
  same: (await client.evals.retrieve(evaluation.id)).id === evaluation.id && listed.includes(evaluation.id),
  name: renamed.name,
  counts: run.result_counts,
  statuses: items.map((one) => one.status).sort(),
  item: item.id === items[0].id && item.sample.output[0].content,
  errors: [run.error, item.sample.error],
  runs: runs.includes(run.id),
  cancelled: (await client.evals.runs.cancel(long.id, ids)).status,
  runDeleted: (await client.evals.runs.delete(long.id, ids)).deleted,
  deleted: (await client.evals.delete(evaluation.id)).eval_id === evaluation.id,
};

console.log(
  JSON.stringify({
    evals,
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
