"""Whether what runs can be trusted: figures, alarms, metrics."""
