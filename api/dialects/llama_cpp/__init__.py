"""llama.cpp's own routes: /completion, /infill, /props and /slots."""
