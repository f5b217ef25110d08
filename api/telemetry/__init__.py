"""What the server tells of itself: metrics, traces and its log."""
