"""Facts to text for people: pure functions from the dictionaries of docs/json.md to lines.

`text` has the means (wrapping, quantities, colour), the other modules a command each. Nothing here
prints, and nothing here imports more than the standard library's lightest modules.
"""
