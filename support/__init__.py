"""Machinery behind the scripts: nothing in it is part of the lesson."""
