"""Whether the detections can be trusted: figures, alarms, metrics."""
