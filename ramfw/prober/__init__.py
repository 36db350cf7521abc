"""The process that asks hosts on which nothing is known whether they are registries.

It talks to strangers, so it is none of the filter: it holds no capability and no secret, and opens
no connection. The daemon hands it one that is there already, to one address and port, with the
name to ask by; it asks `GET /v2/` over TLS and says in a word what came back.
"""

from pathlib import Path

PROBER_SOCKET = Path("/run/ramfw-prober.sock")
