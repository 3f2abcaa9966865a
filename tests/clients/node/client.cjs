// openai-node, unmodified: everything it can ask of the server in BASE_URL with the key in API_KEY, as one JSON object
// on stdout. The requests come as JSON on stdin: {once, ask, tool, format}.
const OpenAI = require("openai");
const fs = require("node:fs");

const { once, ask, tool, format } = JSON.parse(fs.readFileSync(0, "utf8"));
const client = new OpenAI({ baseURL: `${process.env.BASE_URL}/v1`, apiKey: process.env.API_KEY, maxRetries: 0 });
const text = { model: "tiny", prompt: once, seed: 1, max_tokens: 8 };
const chat = { model: "tiny", messages: ask, seed: 1, max_tokens: 12 };
const call = {
  ...chat, max_tokens: 200, tools: [tool], tool_choice: "required", parallel_tool_calls: false,
};

async function refused(request) {
  try {
    await request;
    return null;
  } catch (error) {
    return { name: error.constructor.name, status: error.status, param: error.param, code: error.code };
  }
}

async function main() {
  const said = {};
  said.models = (await client.models.list()).data.map((card) => card.id);
  said.completion = await client.completions.create({ ...text, logprobs: 2, n: 2 });
  said.completionParts = [];
  for await (const chunk of await client.completions.create({ ...text, stream: true })) {
    said.completionParts.push(chunk.choices[0].text);
  }
  said.chat = await client.chat.completions.create({ ...chat, logprobs: true, top_logprobs: 2 });
  said.chatParts = [];
  const options = { stream: true, stream_options: { include_usage: true } };
  for await (const chunk of await client.chat.completions.create({ ...chat, ...options })) {
    if (chunk.choices.length) said.chatParts.push(chunk.choices[0].delta.content ?? "");
    if (chunk.usage) said.streamUsage = chunk.usage;
  }
  said.tool = await client.chat.completions.create(call);
  said.folded = await client.chat.completions.stream(call).finalChatCompletion();
  said.schema = await client.chat.completions.parse({ ...chat, max_tokens: 200, response_format: format });
  said.badRequest = await refused(client.chat.completions.create({ ...chat, temperature: 3 }));
  said.unknownModel = await refused(client.chat.completions.create({ ...chat, model: "gpt-4o" }));
  said.wrongKey = await refused(client.withOptions({ apiKey: "another" }).models.list());
  process.stdout.write(JSON.stringify(said));
}

main();
