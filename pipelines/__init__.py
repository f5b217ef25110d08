"""From a GGUF file to a validated, published model: plain functions, and Dagster's face on them."""
