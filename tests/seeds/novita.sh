# Novita, "Create completion": the page prints no code. A request built from its fields, every one of them that goes
# with the others (seed 002: stop as a string, stop sequence kept; best_of above n, so no stream).
curl "$BASE_URL/openai/v1/completions" --silent --show-error --max-time 120 \
  -H 'Content-Type: application/json' \
  -H "Authorization: Bearer $API_KEY" \
  --data-binary '{
    "model": "meta-llama/llama-3.1-8b-instruct",
    "prompt": "Once upon a time",
    "max_tokens": 24,
    "stream": false,
    "n": 2,
    "best_of": 3,
    "seed": 7,
    "frequency_penalty": 0.1,
    "presence_penalty": 0.1,
    "repetition_penalty": 1.2,
    "stop": ".",
    "temperature": 0.8,
    "top_p": 0.9,
    "top_k": 50,
    "min_p": 0.01,
    "logit_bias": {"300": 1},
    "logprobs": 5
  }'
