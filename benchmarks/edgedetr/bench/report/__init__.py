"""What a run came to: ``report.json``, and one page that shows it to a person.

A new figure is a field of `contents.ModelReport`, its value in `assemble`, its row in `table`.
"""
