# Scale SGP, "Generate completion": the page prints a body and no code. Its body, with the key where the SDK puts it.
curl "$BASE_URL/v4/beta/completions" --silent --show-error --max-time 120 \
  -H 'Content-Type: application/json' \
  -H "x-api-key: $API_KEY" \
  --data-binary '{
"model": "gpt-4o",
"prompt": "What is the capital of France?"
}'
