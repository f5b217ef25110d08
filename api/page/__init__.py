"""The page for people at `/`: files that the browser runs as they are."""
