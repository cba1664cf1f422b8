"""`Detections` to and from the formats of others, one file each."""
