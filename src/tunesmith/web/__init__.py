"""The dashboard: pages in a browser, on the functions that the API answers with.

A page asks the API's own application, in this process and as the key that signed in, so it can show and do what that
key may and nothing else. It never asks the database.
"""
