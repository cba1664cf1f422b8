"""Commands of the distillation stage that have a file of their own."""
