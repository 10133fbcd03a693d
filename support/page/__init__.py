"""The lab report: one page that shows every run in a save folder."""
