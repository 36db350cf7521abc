"""A small catalogue, as an organization would write it."""

HEAD = 'version = 1\nedition = "1"\n'
HOST = """
[[registry.host]]
pattern = "registry.example"
role = "api"
use = "pull and push"
source = "https://registry.example/docs"
date = 2026-01-01
grade = "vendor"
"""
PLACEHOLDER = """
[registry.placeholder.tenant]
means = "the tenant"
form = "[a-z]+"
example = "acme"
"""
ENTRY = f'[[registry]]\nid = "one.example"\nname = "One"\naliases = ["one"]\n{HOST}'
REGISTRY = HEAD + ENTRY
