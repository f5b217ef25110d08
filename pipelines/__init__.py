"""From a GGUF file to a validated, published model: functions, and Dagster's definitions."""
