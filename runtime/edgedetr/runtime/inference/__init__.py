"""A model from its file to its detections: opened, checked, fed and watched."""
