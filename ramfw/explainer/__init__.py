"""The processes that tell a refused connection why: the explainer, and its signer.

Neither is part of the filter. They read the policy file and nothing else of ramfw's, hold no
capability, and could both be taken over without a packet getting through that was refused.
"""

from pathlib import Path

SIGNER_SOCKET = Path("/run/ramfw-signer.sock")
