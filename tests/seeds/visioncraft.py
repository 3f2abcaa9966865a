"""VisionCraft, "Text Generation": the page's Python example. Changed: key and base URL come from the environment."""

import os

from openai import OpenAI

client = OpenAI(
    api_key=os.environ["API_KEY"],
    base_url=os.environ["BASE_URL"] + "/v1"
)

chat_completion = client.chat.completions.create(
    stream=False, # Can be True
    model="Mixtral-8x7B-Instruct-v0.1",
    messages=[
        {
            "role": "user",
            "content": 'There are 50 books in a library. Sam decides to read 5 of the books. How many books are there now? If there are 45 books, say "1". Else, if there is the same amount of books, say "2".'  # noqa: E501
        },
    ],
)
print(chat_completion)  # noqa: T201
