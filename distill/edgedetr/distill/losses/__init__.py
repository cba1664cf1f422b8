"""The terms that distillation methods are put together from."""
