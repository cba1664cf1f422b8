"""A model from its file to an answer: opened, checked, fed and watched."""
