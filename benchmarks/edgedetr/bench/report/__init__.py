"""What a run came to: ``report.json``, and one page that shows it to a person."""
