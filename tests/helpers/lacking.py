"""The libraries that Termux lacks, or that nobody should have to compile there."""

from typing import Final

# What only gateways, commands or other options of libp2p use.
OF_GATEWAYS: Final = (
    "aiohttp", "aioquic", "alembic", "blake3", "coincurve", "Crypto", "dns", "fastecdsa", "grpc",
    "httpx", "miniupnpc", "mmh3", "netaddr", "prometheus_client", "psycopg", "requests", "rich",
    "segno", "zeroconf",
)  # fmt: skip
# What a worker uses where it is there.
OPTIONAL: Final = ("cbor2", "nacl", "psutil")
