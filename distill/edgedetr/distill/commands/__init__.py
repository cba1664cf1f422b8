"""Commands of the distillation stage, one a file; ``cli.py`` puts them in their groups."""
