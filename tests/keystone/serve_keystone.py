"""Keystone on a port of 127.0.0.1, until it is ended: ``serve_keystone.py PORT`` in Keystone's own environment."""

import sys

import waitress

port = int(sys.argv.pop())  # Keystone reads the arguments that are left
from keystone.wsgi.api import application  # noqa: E402

waitress.serve(application, host="127.0.0.1", port=port, threads=4, ident=None)
