// Nebius, "Text generation": the page's JavaScript example. Changed: the base URL comes from the environment;
// A15: `{...},` becomes properties. extra_body stays inside the object, where openai-node sends it literally (C21).
const OpenAI = require("openai");

const client = new OpenAI({
  baseURL: process.env.BASE_URL + "/v1/",
  apiKey: process.env.NEBIUS_API_KEY,
});

client.chat.completions.create({
  "max_tokens": 100,
  "temperature": 1,
  "top_p": 1,
  "top_k": 50,
  "n": 1,
  "stream": false,
  "stream_options": null,
  "stop": null,
  "presence_penalty": 0,
  "frequency_penalty": 0,
  "logit_bias": null,
  "logprobs": false,
  "top_logprobs": null,
  "user": null,
  "extra_body": {
    "guided_json": {"type": "object", "properties": {"joke": {"type": "string", "maxLength": 60}}}
  },
  "response_format": {
    "type": "json_object"
  },
  "model": "meta-llama/Meta-Llama-3.1-70B-Instruct",
  "messages": [
    {
      "role": "system",
      "content": "You are a chemistry expert. Add jokes about cats to your responses from time to time."
    },
    {
      "role": "user",
      "content": "Hello!"
    },
    {
      "role": "assistant",
      "content": "Hello! How can I assist you with chemistry today? And did you hear about the cat who became a chemist? She had nine lives, but she only needed one formula!"
    }
  ]
})
.then((completion) => console.log(completion));
