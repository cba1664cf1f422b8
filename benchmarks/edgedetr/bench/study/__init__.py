"""The study of what distillation is worth: frames packed once, many short runs, one table."""
