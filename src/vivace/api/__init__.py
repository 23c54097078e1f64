"""Answers over HTTP: routes, forms of replies, errors as status codes. Begin with app.py; what it needs is in deps.py."""
