"""The machinery of the scripts: no lesson in it. Importing it installs what start.py explains."""

from support import start

start.install()
