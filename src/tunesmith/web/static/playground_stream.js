// One streamed answer of the API: what arrives, as it arrives.

/** The API's own sentence, or ours where it sent none. */
export class Refused extends Error {
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

/**
 * Asks for a chat completion and yields its parts:
 * {kind: "head", adapter}, {kind: "chunk", chunk}. Ends after [DONE]; an answer that breaks off before throws.
 */
export async function* streamed(send, problemOf, body, signal) {
  const answer = await send("/v1/chat/completions", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ ...body, stream: true, stream_options: { include_usage: true } }),
    signal,
  });
  if (!answer.ok) throw new Refused(await problemOf(answer), answer.status);
  yield { kind: "head", adapter: answer.headers.get("x-tunesmith-adapter") };
  for await (const data of events(answer.body)) {
    if (data === "[DONE]") return;
    const chunk = JSON.parse(data);
    if (chunk.error) throw new Refused(chunk.error.message);
    yield { kind: "chunk", chunk };
  }
  throw new TypeError("the answer broke off");
}

/** The data of server-sent events; a character or an event may be cut anywhere between two reads. */
async function* events(stream) {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      const parts = (rest + value).split("\n\n");
      rest = parts.pop();
      for (const part of parts) if (part.startsWith("data: ")) yield part.slice(6);
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

/** The texts of tokens side by side; a character that several tokens share stands at the last of them. */
export function tokenTexts(entries) {
  const decoder = new TextDecoder();
  return entries.map((entry, place) =>
    decoder.decode(new Uint8Array(entry.bytes ?? []), { stream: place < entries.length - 1 }));
}
