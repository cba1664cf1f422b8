"""Programs that run a package where there is no Python, generated from its spec."""
