"""The machinery behind the scripts: no lesson in it."""
