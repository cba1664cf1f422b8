"""The same student trained in several ways: runs, statistics, a page."""
