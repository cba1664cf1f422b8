"""What a training step and a run of them need; `edgedetr.distill.recipe` puts them in order."""
