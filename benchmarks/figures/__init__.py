"""The figures of ``docs/concepts.md``, which `benchmarks/concept_figures.py` draws."""
