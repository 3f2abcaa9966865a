# Empower, "Chat completions": the page prints no code. A request built from its fields, every one of them.
curl "$BASE_URL/api/v1/chat/completions" --silent --show-error --max-time 120 \
  -H 'Content-Type: application/json' \
  -H "Authorization: Bearer $API_KEY" \
  --data-binary '{
    "model": "IlyaGusev/saiga_mistral_7b_lora",
    "messages": [{"role": "user", "content": "Name an animal."}],
    "frequency_penalty": 0.1,
    "ignore_eos": false,
    "max_tokens": 32,
    "n": 2,
    "presence_penalty": 0.1,
    "stream": false,
    "temperature": 0.7,
    "top_p": 0.9
  }'
