"""Nebius, "Text generation": the page's Python example. Changed: the base URL comes from the environment.

C19: also, false and null become False and None, `{...}` becomes properties, and top_k, which the client does not know,
moves into extra_body.
"""

import os

from openai import OpenAI

client = OpenAI(
    base_url=os.environ["BASE_URL"] + "/v1/",
    api_key=os.environ.get("NEBIUS_API_KEY"),
)

completion = client.chat.completions.create(
    model="meta-llama/Meta-Llama-3.1-70B-Instruct",
    messages=[
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
          "content": "Hello! How can I assist you with chemistry today? And did you hear about the cat who became a chemist? She had nine lives, but she only needed one formula!"  # noqa: E501
        }
    ],
    max_tokens=100,
    temperature=1,
    top_p=1,
    n=1,
    stream=False,
    stream_options=None,
    stop=None,
    presence_penalty=0,
    frequency_penalty=0,
    logit_bias=None,
    logprobs=False,
    top_logprobs=None,
    user=None,
    extra_body={
        "top_k": 50,
        "guided_json": {"type": "object", "properties": {"joke": {"type": "string", "maxLength": 60}}}
    },
    response_format={
        "type": "json_object"
    }
)

print(completion.to_json())  # noqa: T201
