"""The server's monitoring data: metrics, traces and its log."""
