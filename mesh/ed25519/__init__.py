"""Ed25519 (RFC 8032): libsodium does it, or Python itself where there is no libsodium, in WebAssembly.

Both give the same signatures and refuse the same ones: ``tests/contracts/test_ed25519.py``.
"""

import sys

if sys.platform == "emscripten":
    from mesh.ed25519.rfc8032 import public_key_of_seed, sign, verify
else:
    from mesh.ed25519.sodium import public_key_of_seed, sign, verify

__all__ = ["public_key_of_seed", "sign", "verify"]
